"""The one exception for what a user can mend."""

from __future__ import annotations


class CnetError(ValueError):
    """Something a user can mend: one sentence that says what is wrong, what was expected, the fix.

    Programs read the fields; people read ``str(error)``.

    Args:
        message: the whole sentence.
        key: dotted name of the setting, argument, layer or file at fault, if there is one.
        value: the value found there.
        expected: what would be right, in words or as the allowed values.
        fix: what to do about it, in words.
    """

    def __init__(
        self,
        message: str,
        *,
        key: str | None = None,
        value: object = None,
        expected: object = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.key, self.value, self.expected, self.fix = key, value, expected, fix


def bad_value(key: str, value: object, expected: str, fix: str | None = None) -> CnetError:
    """Return the error for a value that cannot be: "KEY is VALUE; expected ...".

    Args:
        key: dotted name of the setting or argument.
        value: the value given.
        expected: what is allowed, such as "a whole number of at least 1".
        fix: what else to do about it, as a clause such as "or leave it out".
    """
    message = f"{key} is {value!r}; expected {expected}{'; ' + fix if fix else ''}"
    message += "" if message.endswith("?") else "."
    return CnetError(message, key=key, value=value, expected=expected, fix=fix)
