"""Time the selective scan's backends against loops under autograd: python benchmarks/selective_scan.py.

`loop` is what implementations without a compiled kernel do, in Mamba's own layout: decay factors
(batch, dim, length, d_state) for all steps first, then one slice a step, whose gradient is a tensor
of full size each time. `reference` is our own readable loop, which slices the smaller inputs.

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


def loop(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
) -> torch.Tensor:
    """The recurrence step by step on precomputed factors (batch, dim, length, d_state)."""
    u, delta = u.transpose(1, 2), torch.nn.functional.softplus(delta).transpose(1, 2)
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    drive = torch.einsum("bdl,bln,bdl->bdln", delta, B, u)
    h = torch.zeros_like(drive[:, :, 0])
    outputs = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + drive[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", h, C[:, t]))
    return torch.stack(outputs, dim=1)


def scan(name: str, inputs: list[torch.Tensor]) -> torch.Tensor:
    """One forward pass of the loop or of a backend."""
    if name == "loop":
        return loop(*inputs)
    return selective_scan(*inputs, delta_softplus=True, backend=name)


def run(backend: str, inputs: list[torch.Tensor], with_backward: bool) -> list[torch.Tensor]:
    """One call; returns the output, and the gradients if wanted."""
    if not with_backward:
        with torch.no_grad():
            return [scan(backend, inputs)]
    y = scan(backend, inputs)
    return [y.detach(), *torch.autograd.grad(y.sum(), inputs)]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    table = Table(title=f"selective scan, float32, {arguments.threads} thread(s), ms (x loop)")
    table.add_column("shape (batch, dim, length, d_state)")
    table.add_column("pass")
    backends = ["loop", *available_backends()]
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
                    f" ({medians['loop'] / medians[n]:.1f}x)"
                    for n in backends
                ),
            )
    console = Console(width=120)
    console.print(table)
    console.print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
