"""Time the selective scan's backends against the plain loop: python benchmarks/selective_scan.py.

Forward, and forward with backward, interleaved in one process; a table is printed only after every
backend has agreed with the reference on the shape at hand.
"""

import argparse
import platform
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from mambavision_lab.ops.selective_scan import available_backends, selective_scan

# (batch, dim, length, d_state): the two token stages of the published T at 224 px with batch 32.
SHAPES = [(32, 160, 196, 8), (32, 320, 49, 8)]


def make_inputs(batch: int, dim: int, length: int, d_state: int) -> list[torch.Tensor]:
    """Random arguments u, delta, A, B, C as the mixer gives them."""
    torch.manual_seed(0)
    u, delta = torch.randn(2, batch, length, dim).unbind(0)
    A = -torch.arange(1.0, d_state + 1).repeat(dim, 1)
    B, C = torch.randn(2, batch, length, d_state).unbind(0)
    return [x.contiguous().requires_grad_() for x in (u, delta - 3, A, B, C)]


def run(backend: str, inputs: list[torch.Tensor], with_backward: bool) -> list[torch.Tensor]:
    """One call; returns the output, and the gradients if wanted."""
    if not with_backward:
        with torch.no_grad():
            return [selective_scan(*inputs, delta_softplus=True, backend=backend)]
    y = selective_scan(*inputs, delta_softplus=True, backend=backend)
    return [y.detach(), *torch.autograd.grad(y.sum(), inputs)]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    table = Table(title=f"selective scan, float32, {arguments.threads} thread(s), ms (x reference)")
    table.add_column("shape (batch, dim, length, d_state)")
    table.add_column("pass")
    backends = available_backends()
    for name in backends:
        table.add_column(name, justify="right")
    for shape in SHAPES:
        inputs = make_inputs(*shape)
        expected = run("reference", inputs, with_backward=True)
        for name in backends:
            for got, want in zip(run(name, inputs, with_backward=True), expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
        for with_backward in (False, True):
            times: dict[str, list[float]] = {name: [] for name in backends}
            for _ in range(arguments.repeats):
                for name in backends:
                    start = time.perf_counter()
                    run(name, inputs, with_backward)
                    times[name].append(1e3 * (time.perf_counter() - start))
            medians = {name: statistics.median(values) for name, values in times.items()}
            table.add_row(
                str(shape),
                "forward + backward" if with_backward else "forward",
                *(
                    f"{medians[n]:.1f} [{min(times[n]):.1f}-{max(times[n]):.1f}]"
                    f" ({medians['reference'] / medians[n]:.1f}x)"
                    for n in backends
                ),
            )
    console = Console(width=120)
    console.print(table)
    console.print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
