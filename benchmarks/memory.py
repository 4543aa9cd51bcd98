"""Measure the peak memory of a call, as the system reports it (Linux)."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

# For the process that measures: every tensor is a mapping of its own, which goes back to the system when
# it is freed, so that what came before does not hide what a call takes.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


def environment() -> dict[str, str]:
    """Return the environment for a process that measures."""
    return os.environ | ENVIRONMENT


def extra_peak_mb(call: Callable[[], object]) -> float:
    """Return by how many MB (2**20 bytes) this process grows, at most, while it runs the call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again here
    before = _status_mb("VmRSS")
    call()
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
