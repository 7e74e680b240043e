"""Room zoo."""
