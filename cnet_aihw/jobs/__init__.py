"""The command `cnet-aihw`: ties the other rooms together; the only room that knows Hydra."""
