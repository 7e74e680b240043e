"""Room rram."""
