"""Data sets and networks of the paper, and the ways to bring your own."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
