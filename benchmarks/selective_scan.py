"""Time the selective scan's backends: python benchmarks/selective_scan.py (about five minutes).

Forward, and forward with backward, in float32 and bfloat16, on one core and on two; contenders (see
`scan_contenders.py`) take turns in one process. A table is printed only after all have agreed with the
scan in float64. Extra peak memory is what the process grew by beyond its inputs, measured in a process
of its own for each contender (Linux).
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from memory import environment, extra_peak_mb
from rich.console import Console
from rich.table import Table
from scan_contenders import Call, backend, can_take, contenders, make_inputs
from timing import interleave, median_ms
from torch import Tensor

# (batch, dim, length, d_state): the two token stages of the published T at 224 px with batch 32, and
# long sequences.
Shape = tuple[int, int, int, int]
SHAPES: list[Shape] = [(32, 160, 196, 8), (32, 320, 49, 8), (2, 192, 4096, 8), (2, 192, 4096, 16)]
PASSES = {"forward": False, "forward + backward": True}
# Of outputs and gradients as a whole, relative to float64. bfloat16 rounds to 2**-9.
LARGEST_ERROR = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
RATIOS = ("loop", "mambapy", "c++")  # what numba and torch are compared with


def check(calls: dict[str, Call], shape: Shape, dtype: torch.dtype) -> dict[str, float]:
    """Compare all with float64; returns the largest relative error of each.

    Raises:
        SystemExit: A contender disagrees.
    """
    inputs, grad_y = make_inputs(*shape, dtype)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    expected = backend("torch")(wide, grad_y.double())
    errors = {}
    for name, run in calls.items():
        if not can_take(name, shape[2], dtype, backward=False):
            continue
        actual = run(inputs, grad_y if can_take(name, shape[2], dtype, backward=True) else None)
        errors[name] = max(relative_error(a, b) for a, b in zip(actual, expected, strict=False))
        if not errors[name] < LARGEST_ERROR[dtype]:
            raise SystemExit(
                f"{name} differs from float64 by {errors[name]:.1e} on {shape}, {dtype}"
            )
    return errors


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over the norm."""
    return ((actual.double() - expected).norm() / expected.norm()).item()


def time_all(
    calls: dict[str, Call], shape: Shape, dtype: torch.dtype, backward: bool, rounds: int
) -> dict[str, float]:
    """Time each contender; returns its median in ms."""
    inputs, grad_y = make_inputs(*shape, dtype)
    grad = grad_y if backward else None
    runs: dict[str, Callable[[], object]] = {
        name: partial(run, inputs, grad)
        for name, run in calls.items()
        if can_take(name, shape[2], dtype, backward)
    }
    seconds = interleave(runs, rounds, num_warm_up=0, enough_s=1, settle_s=0.2)
    gc.collect()
    return {name: median_ms(values) for name, values in seconds.items()}


def peak_memory(name: str, shapes: list[Shape]) -> list[float | None]:
    """Measure the extra peak memory in MB of forward and backward in float32, for each shape."""
    command = [sys.executable, __file__, "--memory-of", name, json.dumps(shapes)]
    output = subprocess.run(
        command, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return json.loads(output.splitlines()[-1])


def print_peak_memory(name: str, shapes: list[Shape]) -> None:
    """Measure in the process of `peak_memory`, and print the result."""
    run = contenders()[name]
    run(*make_inputs(1, 16, 8, 8, torch.float32))
    peaks: list[float | None] = []
    for shape in shapes:
        inputs, grad_y = make_inputs(*shape, torch.float32)
        is_taken = can_take(name, shape[2], torch.float32, backward=True)
        peaks.append(extra_peak_mb(partial(run, inputs, grad_y)) if is_taken else None)
    print(json.dumps(peaks))


def cell(name: str, values: dict[str, float]) -> str:
    """Format a value and, for the package's backends, how many times larger the others' are."""
    if name not in values:
        return "-"
    text = f"{values[name]:.3g}"
    if name in ("numba", "torch") and values[name]:  # of a toy's memory 0 MB may be measured
        others = [f"{values[other] / values[name]:.3g}" for other in RATIOS if other in values]
        text += f" ({' / '.join(others)})" if others else ""
    return text


def table(title: str, names: list[str], rows: dict[str, dict[str, float]]) -> Table:
    """Make a table, a row per shape and pass, a column per contender."""
    result = Table(title=title)
    result.add_column("(batch, dim, length, d_state)", no_wrap=True)
    for name in names:
        result.add_column(name, justify="right", no_wrap=True)
    for label, values in rows.items():
        result.add_row(label, *(cell(name, values) for name in names))
    return result


def print_table(console: Console, made: Table, markdown: bool) -> None:
    """Print a table, as Markdown or by rich."""
    if not markdown:
        console.print(made)
        return
    rows = zip(*(column.cells for column in made.columns), strict=True)
    lines = [[str(column.header) for column in made.columns], ["---"] * len(made.columns), *rows]
    print(f"\n{made.title}\n")
    for line in lines:
        print(f"| {' | '.join(map(str, line))} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of each, small shapes")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        name, shapes = arguments.memory_of
        print_peak_memory(name, json.loads(shapes))
        return
    shapes = [(2, 32, 49, 8), (1, 32, 300, 16)] if arguments.quick else SHAPES
    rounds = 1 if arguments.quick else arguments.rounds
    console = Console(width=None if sys.stdout.isatty() else 160)
    calls = contenders()
    console.print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
    )
    for dtype in LARGEST_ERROR:
        names = [name for name in calls if can_take(name, 1, dtype, backward=False)]
        errors = {f"{shape}": check(calls, shape, dtype) for shape in shapes}
        for threads in range(1, min(2, os.cpu_count() or 1) + 1):
            torch.set_num_threads(threads)
            rows = {
                f"{shape} {label}": time_all(calls, shape, dtype, backward, rounds)
                for shape in shapes
                for label, backward in PASSES.items()
            }
            title = f"ms (times faster than {' / '.join(n for n in RATIOS if n in names)}), "
            title += f"{dtype}, {threads} core{'s'[: threads - 1]}"
            print_table(console, table(title, names, rows), arguments.markdown)
        torch.set_num_threads(1)
        largest = {n: max(e[n] for e in errors.values() if n in e) for n in names}
        console.print(
            f"largest relative error, {dtype}: "
            + ", ".join(f"{name} {error:.1e}" for name, error in largest.items())
        )
    if sys.platform == "linux":
        peaks = {name: peak_memory(name, shapes) for name in calls}
        rows = {
            f"{shape}": {n: values[i] for n, values in peaks.items() if values[i] is not None}
            for i, shape in enumerate(shapes)
        }
        title = "extra peak memory of forward + backward, MB (times less), float32, 1 core"
        print_table(console, table(title, [*calls], rows), arguments.markdown)


if __name__ == "__main__":
    main()
