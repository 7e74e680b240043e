"""Digital compensation in analog models: placing, fitting and counting it (CorrectNet, step 2)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
