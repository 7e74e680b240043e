"""Hydra configuration of cnet_aihw; a package so that wheels and editable installs both find it."""
