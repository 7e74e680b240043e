"""Keep a network's accuracy on RRAM chips whose weights vary: an add-on to aihwkit."""

__version__ = "0.1.0"
