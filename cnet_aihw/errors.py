"""The one exception for mistakes that a user can mend."""


class CnetError(ValueError):
    """A mistake in what the user gave; the message is one sentence that says how to mend it."""
