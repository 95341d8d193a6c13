"""The one error that a user can mend."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was received, what was expected, and what to type next. The command line
    prints it without a traceback and exits with 1.
    """
