"""Time the first scan of a process: python benchmarks/first_call.py (about a minute).

Cold, when the kernels are yet to be compiled (once on a machine), and from the stored files; forward and
backward, each in fresh processes, after the imports of torch and of the package.
"""

import os
import statistics
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.table import Table

PROGRAM = """
import time
import torch
from mambavision_lab.ops.selective_scan import selective_scan
u, delta = torch.rand(2, 2, 49, 32, requires_grad=True)
B, C = torch.rand(2, 2, 49, 8)
start = time.perf_counter()
y = selective_scan(u, delta, -torch.rand(32, 8), B, C, backend="BACKEND")
forward = time.perf_counter()
y.sum().backward()
print(forward - start, time.perf_counter() - forward)
"""


def first_call(backend: str, folder: str) -> tuple[float, float]:
    """Time the first forward and backward, in s, of a process that stores its kernels in a folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": folder}
    command = [sys.executable, "-c", PROGRAM.replace("BACKEND", backend)]
    output = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    forward, backward = map(float, output.split())
    return forward, backward


def main() -> None:
    """Print the table."""
    rows: dict[str, list[tuple[float, float]]] = {
        "numba, cold": [],
        "numba, stored": [],
        "torch": [],
    }
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            rows["numba, cold"].append(first_call("numba", folder))
            rows["numba, stored"].append(first_call("numba", folder))
            rows["torch"].append(first_call("torch", folder))
    result = Table(title="first scan of a process, medians of 3, s")
    for heading in ("", "forward", "backward", "both"):
        result.add_column(heading, justify="right")
    for name, times in rows.items():
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        both = statistics.median(map(sum, times))
        result.add_row(name, *(f"{x:.3f}" for x in (*medians, both)))
    Console().print(result)


if __name__ == "__main__":
    main()
