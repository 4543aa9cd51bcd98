"""Run a compiled worker on all of torch's cores.

On Linux through the OpenMP runtime that torch has loaded, whose threads wait for work anyway: other
threads beside them would share the cores with their waiting. Elsewhere on threads of our own.
"""

import ctypes
import functools
import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

_WORKER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_is_forked_child = False


def num_workers(num_tasks: int) -> int:
    """Return how many workers `run` should start for that many tasks."""
    # A forked child has the parent's OpenMP state without its threads.
    return 1 if _is_forked_child else max(1, min(torch.get_num_threads(), num_tasks))


def run(address: int, argument: int, workers: int) -> None:
    """Call the worker at an address, void (*)(void *), that many times at once, without the GIL."""
    if workers == 1:
        _WORKER(address)(argument)
    elif parallel := _gomp_parallel():
        parallel(address, argument, workers, 0)
    else:
        calls = [_threads().submit(_WORKER(address), argument) for _ in range(workers)]
        wait(calls)


@functools.cache
def _gomp_parallel() -> Any:
    """Find `GOMP_parallel` of the libgomp in this process; None without one."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    paths = {line.split()[-1] for line in maps.splitlines() if "libgomp" in line}
    for path in sorted(paths, key=lambda path: "torch" not in path):
        try:
            parallel = ctypes.CDLL(path).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="selective_scan")


def _note_fork() -> None:
    global _is_forked_child
    _is_forked_child = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
