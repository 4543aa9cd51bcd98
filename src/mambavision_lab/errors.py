"""The exceptions that a user reads as one line, and the reasons of others in one line."""

import errno
import re
import sys
import traceback
from typing import ClassVar, NoReturn


class ConfigError(ValueError):
    """A setting, a path or a data folder is wrong; the message is one line for the user.

    It states what was given, what was wanted and what to do. The entry points print it without a
    traceback and exit with status 2.
    """

    status: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        if message.startswith("Caught "):  # by a loader's worker, which hands over its traceback
            message = message.rpartition("ConfigError: ")[2].strip()
        super().__init__(message)


class RunError(RuntimeError):
    """A run that could start has failed: a full disk, no memory, a loss that is not finite.

    The message is one line for the user. The entry points print it without a traceback and exit with
    status 1.
    """

    status: ClassVar[int] = 1


class ReportedError(SystemExit):
    """What ended a task was printed where it happened: end with that status, the reason is for records."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status)
        self.reason = reason


_NO_SPACE = (
    "free some space or choose another folder with paths.log_dir=FOLDER, then resume the run"
)
_NO_ACCESS = "choose a folder that can be written with paths.log_dir=FOLDER"
_NO_MEMORY = (
    "lower data.batch_size (with data.global_batch_size a step keeps its images), choose "
    "trainer.precision=bf16-mixed, or a smaller data.image_size or model"
)
_OS_ADVICE = {
    errno.ENOMEM: "lower data.num_workers or data.batch_size",
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: _NO_SPACE,
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.EROFS: _NO_ACCESS,
    errno.EPIPE: "the program that read the output has ended: add > FILE, and resume a run that was training",
    errno.EMFILE: "raise the limit with ulimit -n, or lower data.num_workers",
}
# Pattern in an error's name and message, whose fault it is, and what to do.
_KNOWN: tuple[tuple[str, type[ConfigError] | type[RunError], str], ...] = (
    (r"inline_container|PytorchStreamWriter", RunError, _NO_SPACE),  # torch.save on a full disk
    (
        r"shared memory|shm_open|torch_shm|</torch_|unable to (mmap|resize) .*bytes|ancdata",
        RunError,
        "lower data.num_workers, raise the limit with ulimit -n, or give the container more shared memory "
        "(docker: --shm-size=8g)",
    ),
    (
        r"DataLoader worker .*(exited unexpectedly|killed by signal)",
        RunError,
        "lower data.num_workers: it had too little memory, or shared memory",
    ),
    (
        r"OutOfMemoryError|MemoryError|out of memory|bad_alloc|ALLOC_FAILED|can't allocate memory|"
        r"not enough memory|[Cc]annot allocate memory",
        RunError,
        _NO_MEMORY,
    ),
    (
        r"^(InductorError|BackendCompilerFailed|InvalidCxxCompiler): ",
        RunError,
        "choose classifier.use_compile=false, or install a C++ compiler",
    ),
    (
        r"use_deterministic_algorithms",
        ConfigError,
        "choose trainer.deterministic=warn or trainer.deterministic=false",
    ),
)


def explain(error: BaseException) -> ConfigError | RunError | None:
    """Put what Lightning, torch or the system refuse into one line; None for an error in the code."""
    if isinstance(error, ConfigError | RunError):
        return error
    if isinstance(error, FloatingPointError):
        return RunError(reason(error, max_length=None))
    if isinstance(error, OSError) and error.errno is not None:
        advice = _OS_ADVICE.get(error.errno, "see that it is there and can be read and written")
        return RunError(f"{reason(error)}; {advice}")
    for pattern, kind, advice in _KNOWN:
        if re.search(pattern, f"{type(error).__name__}: {error}"):
            return kind(f"{first_line(error)}; {advice}")
    name = type(error).__name__
    if name in ("ConfigAttributeError", "ConfigKeyError"):  # OmegaConf's: removed with ~KEY
        return ConfigError(f"{getattr(error, 'full_key', error)}: is missing; give it a value")
    if name == "MisconfigurationException" or (
        isinstance(error, ValueError | TypeError | RuntimeError)
        and _raised_in(error).startswith(("lightning.", "torch.optim."))
    ):
        return ConfigError(reason(error, 600))
    return None


def refuse(error: ConfigError | RunError) -> NoReturn:
    """Print why a command cannot be run, or has failed, in one line, and exit with its status."""
    print(f"error: {reason(error, max_length=None)}", file=sys.stderr, flush=True)
    sys.exit(error.status)


def reason(error: BaseException, max_length: int | None = 300) -> str:
    """Give the reason of an exception in one line of at most max_length characters (None: all).

    An exception without a message gives its name.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch prints some words bold
    return " ".join(text.split())[:max_length] or type(error).__name__


def error_text(error: BaseException) -> str:
    """Give what is known of an exception, or its name and reason, in one line."""
    return str(explain(error) or f"{type(error).__name__}: {reason(error)}")


def first_line(error: BaseException) -> str:
    """Give the first line of an exception's message; one without a message gives its name."""
    return " ".join(str(error).strip().partition("\n")[0].split()) or type(error).__name__


class NotInstalledError(ConfigError):
    """A package is not installed; the message says how to install it."""


def missing_extra(what: str, package: str, extra: str) -> NotInstalledError:
    """Make the error for a package that is not installed, naming the extra of ours that brings it.

    Args:
        what: Setting or class that needs the package, such as "data=digits".
        package: Name of the package, such as "scikit-learn".
        extra: Name of the extra in `pyproject.toml`, such as "digits".
    """
    return NotInstalledError(
        f"{what} needs {package}; install it with: pip install 'mambavision-lab[{extra}]'"
    )


def _raised_in(error: BaseException) -> str:
    """Name the module whose code raised an error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""
