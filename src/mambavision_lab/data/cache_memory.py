"""The folder of caches in memory: files of Linux's shared memory, removed by the last process that uses them.

Each process holds a lock on the files that it uses. What a killed process has left without a lock is removed
when the next cache in memory is made.
"""

import os
import time
from contextlib import suppress
from multiprocessing.util import Finalize
from pathlib import Path

from mambavision_lab.errors import ConfigError

_SHARED_MEMORY = Path("/dev/shm")
_WRITING_S = 600  # a file that has changed since may not be finished
_held: dict[Path, int] = {}  # file descriptors with a lock


def memory_folder() -> Path:
    """Return this user's folder in memory.

    Raises:
        ConfigError: The system has no such thing.
    """
    if not _SHARED_MEMORY.is_dir():
        raise ConfigError("data.cache=memory needs /dev/shm, which Linux has; give data.cache=disk")
    folder = _SHARED_MEMORY / f"mambavision_lab-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def free_memory() -> int:
    """Return how many bytes the folder may grow by: what it and the machine have free."""
    status = os.statvfs(_SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = min(free, int(line.split()[1]) * 1024)
    return free


def hold(path: Path) -> None:
    """Keep a file until this process ends."""
    if path not in _held:
        if not _held:
            # Unlike atexit's this runs in the processes of a run on several, too.
            Finalize(None, _release, exitpriority=0)
        import fcntl  # which Windows lacks

        _held[path] = os.open(path, os.O_RDONLY)
        fcntl.flock(_held[path], fcntl.LOCK_SH)


def remove_abandoned() -> None:
    """Remove the files that no process uses any more, or writes."""
    for path in memory_folder().iterdir():
        with suppress(OSError):  # in use, or removed meanwhile
            if time.time() - path.stat().st_mtime < _WRITING_S:
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                _remove_unused(path, descriptor)
            finally:
                os.close(descriptor)


def _release() -> None:
    for path, descriptor in _held.items():
        with suppress(OSError):
            _remove_unused(path, descriptor)


def _remove_unused(path: Path, descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path.unlink()
