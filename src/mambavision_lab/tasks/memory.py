"""How a process that runs a network batch after batch holds its memory."""

import ctypes
import os
import sys

# Of glibc's malloc.h: the first argument of mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let the process keep up to 512 MiB that a batch freed, for the next batch.

    By default glibc gives much of it back to the system, whose pages are then zeroed and mapped again batch
    after batch. Where another allocator is at work, or the user set glibc's own, nothing changes.
    """
    is_set = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform != "linux" or is_set:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**25)  # the largest that it takes
        mallopt(_M_TRIM_THRESHOLD, 2**29)
