"""The figures of the page; each is drawn from a table alone."""
