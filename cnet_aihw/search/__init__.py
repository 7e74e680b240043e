"""Searching for a placement: the problem, its evaluation, the searchers (CorrectNet, step 3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
