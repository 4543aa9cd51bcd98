"""The one exception that means: what was asked for cannot be run; and reasons in one line."""

import sys
from typing import NoReturn


class ConfigError(ValueError):
    """A setting, a path or a data folder is wrong; the message is one line for the user.

    It says what was given, what was wanted and what to do. The entry points print it without a
    traceback and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught "):  # by a loader's worker, which hands over its traceback
            message = message.rpartition("ConfigError: ")[2].strip()
        super().__init__(message)


def refuse(error: ConfigError) -> NoReturn:
    """Print why a command cannot be run, in one line, and exit with status 2."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)


def reason(error: BaseException, max_length: int = 300) -> str:
    """Give the reason of an exception in one line of at most max_length characters.

    The exception's name, where it says nothing itself.
    """
    return " ".join(str(error).split())[:max_length] or type(error).__name__
