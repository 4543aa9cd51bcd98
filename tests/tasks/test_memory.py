"""Freed memory is kept for the next batch, unless the user set the allocator."""

import os
import platform
import subprocess
import sys

import pytest

# Page faults of a round that takes, fills and frees 112 MB in four blocks; the least of some rounds.
_COUNT = """
import ctypes
import resource
from mambavision_lab.tasks.memory import keep_freed_memory

SIZE = 28_000_000
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(SIZE) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, SIZE)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(faults() for _ in range(4)))
keep_freed_memory()
print(min(faults() for _ in range(4)))
"""


def _count_faults(**environment: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT],
        env={key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator alone")
class TestKeepFreedMemory:
    def test_a_batch_takes_the_memory_of_the_last(self) -> None:
        before, after = _count_faults()
        assert before > 10_000
        assert after < 100

    def test_leaves_what_the_user_set(self) -> None:
        before, after = _count_faults(MALLOC_MMAP_THRESHOLD_="65536")
        assert min(before, after) > 10_000
