"""The exception for settings and paths that cannot be used, and reasons of exceptions in one line."""

import sys
from typing import NoReturn


class ConfigError(ValueError):
    """A setting, a path or a data folder is wrong; the message is one line for the user.

    It states what was given, what was wanted and what to do. The entry points print it without a
    traceback and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught "):  # by a loader's worker, which hands over its traceback
            message = message.rpartition("ConfigError: ")[2].strip()
        super().__init__(message)


class ReportedError(SystemExit):
    """What ended a task was printed where it happened: end with that status, the reason is for records."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status)
        self.reason = reason


def refuse(error: ConfigError) -> NoReturn:
    """Print why a command cannot be run, in one line, and exit with status 2."""
    print(f"error: {reason(error, max_length=None)}", file=sys.stderr, flush=True)
    sys.exit(2)


def reason(error: BaseException, max_length: int | None = 300) -> str:
    """Give the reason of an exception in one line of at most max_length characters (None: all).

    An exception without a message gives its name.
    """
    return " ".join(str(error).split())[:max_length] or type(error).__name__


def error_text(error: BaseException) -> str:
    """Give the name of an exception and its reason in one line."""
    return f"{type(error).__name__}: {reason(error)}"


def first_line(error: BaseException) -> str:
    """Give the first line of an exception's message; one without a message gives its name."""
    return " ".join(str(error).strip().partition("\n")[0].split()) or type(error).__name__


def missing_extra(what: str, package: str, extra: str) -> ConfigError:
    """Make the error for a package that is not installed, naming the extra of ours that brings it.

    Args:
        what: Setting or class that needs the package, such as "data=digits".
        package: Name of the package, such as "scikit-learn".
        extra: Name of the extra in `pyproject.toml`, such as "digits".
    """
    return ConfigError(
        f"{what} needs {package}; install it with: pip install 'mambavision-lab[{extra}]'"
    )
