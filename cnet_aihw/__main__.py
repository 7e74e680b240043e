"""`python -m cnet_aihw`: the command `cnet-aihw` where its script is not on the path."""

from cnet_aihw.jobs.cli import main

if __name__ == "__main__":
    main()
