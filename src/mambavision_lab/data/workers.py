"""How many processes or threads read images."""

import os

MAX_AUTO_WORKERS = 8


def auto_workers(num_sharing: int = 1) -> int:
    """Return how many files are read at once by one of the processes that share this host."""
    return min(max(1, available_cores() // num_sharing), MAX_AUTO_WORKERS)


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
