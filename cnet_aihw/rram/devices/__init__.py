"""Devices: one noise model a file, each with its source, units and valid range."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
