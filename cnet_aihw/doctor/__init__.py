"""The command ``cnet-aihw doctor``: check the installation and this machine."""
