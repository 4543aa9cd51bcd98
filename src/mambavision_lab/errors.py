"""The one exception that means: what was asked for cannot be run; and reasons in one line."""


class ConfigError(ValueError):
    """A setting, a path or a data folder is wrong; the message is one line for the user.

    It says what was given, what was wanted and what to do. The entry points print it without a
    traceback and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught "):  # by a loader's worker, which hands over its traceback
            message = message.rpartition("ConfigError: ")[2].strip()
        super().__init__(message)


def reason(error: BaseException, max_length: int | None = 300) -> str:
    """Give the reason of an exception in one line of at most max_length characters (None: all).

    Where the exception has no message, that is its name.
    """
    return " ".join(str(error).split())[:max_length] or type(error).__name__
