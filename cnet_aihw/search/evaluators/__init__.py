"""What a search asks for the worth of a placement: fits of each one, or one fit shared by all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
