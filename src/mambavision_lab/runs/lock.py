"""Let one training at a time write into a run folder, by a lock that ends with its process."""

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

LOCK = ".running"  # in a run folder, while it is trained and after a kill

_held: list[IO[str]] = []  # open until this process ends


def take_folder(folder: Path) -> None:
    """Hold a run folder until this process ends; nothing happens where the system has no such locks."""
    if os.name == "posix":
        import fcntl

        file = (folder / LOCK).open("w")
        with suppress(OSError):  # a file system without locks
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by workers
        _held.append(file)


def is_taken(folder: Path) -> bool:
    """Return whether another process is training in a run folder, as far as this machine knows."""
    path = folder / LOCK
    if os.name != "posix" or not path.is_file() or any(f.name == str(path) for f in _held):
        return False
    import fcntl

    try:
        with path.open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # such as no right to write there
    return False
