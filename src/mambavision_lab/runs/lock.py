"""Let one training at a time write into a run folder, by a lock that ends with its process."""

from pathlib import Path
from typing import IO

from mambavision_lab.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".running"  # in a run folder, while it is trained and after a kill

_held: list[IO[str]] = []  # open until this process ends


def take_folder(folder: Path) -> None:
    """Hold a run folder until this process ends; nothing happens where the system has no such locks.

    Raises:
        ConfigError: Another process is training there, such as one that was started at the same time.
    """
    if fcntl is not None:
        file = (folder / LOCK).open("w")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by workers
        except BlockingIOError as error:
            raise ConfigError(
                f"hydra.run.dir={folder}: a process is training there; end it first, or give another folder"
            ) from error
        except OSError:  # a file system without locks
            pass
        _held.append(file)


def is_taken(folder: Path) -> bool:
    """Return whether another process is training in a run folder, as far as this machine knows."""
    path = folder / LOCK
    if fcntl is None or not path.is_file() or any(f.name == str(path) for f in _held):
        return False
    try:
        with path.open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # such as no right to write there
    return False
