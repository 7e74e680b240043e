"""The command `cnet-aihw`: what the other rooms do, tied together by Hydra; nothing else knows Hydra."""
