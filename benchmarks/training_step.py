"""Time training steps by scan backend: python benchmarks/training_step.py (about two minutes).

mambavision_nano on 28 px images, batch 256, and mambavision_small at 224 px, batch 8: forward, backward
and AdamW in channels-last memory on all cores, float32. The backends take turns in one process, after
their losses and gradients have been found equal. "before" is the mixer before it was laid out for the
scan: `nn.Conv1d` with padding "same" between transposes, and the scan in plain PyTorch. The scan's share
is the time inside its operators, from torch's profiler, over that of the profiled step. --profile prints
the operators that take longest.
"""

import argparse
import os
import platform
import statistics
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from timing import interleave, median_ms
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mambavision_lab import create_mambavision
from mambavision_lab.layers.depthwise import DepthwiseConv1d
from mambavision_lab.ops.selective_scan import available_backends


class Case(NamedTuple):
    """A network and its batch."""

    variant: str
    batch: int
    in_chans: int
    image_size: int
    num_classes: int


CASES = [Case("mambavision_nano", 256, 1, 28, 10), Case("mambavision_small", 8, 3, 224, 1000)]
BEFORE = "before"
SCAN = "mambavision_lab::selective_scan"
GRADIENT_ERROR = 1e-4  # relative, of all gradients together


def make_step(case: Case, backend: str) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Make a network with fixed weights and images, and its training step, which returns the loss."""
    torch.manual_seed(0)
    net = create_mambavision(
        case.variant,
        case.num_classes,
        in_chans=case.in_chans,
        image_size=case.image_size,
        scan_backend="torch" if backend == BEFORE else backend,
        drop_path_rate=0.0,
    ).to(memory_format=torch.channels_last)
    if backend == BEFORE:
        for module in net.modules():
            if isinstance(module, DepthwiseConv1d):
                module.forward = partial(conv_between_transposes, module)  # type: ignore[method-assign]
    images = torch.randn(case.batch, case.in_chans, case.image_size, case.image_size)
    images = images.to(memory_format=torch.channels_last)
    targets = torch.randint(case.num_classes, (case.batch,))
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    def step() -> Tensor:
        loss = F.cross_entropy(net(images), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return net, step


def conv_between_transposes(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Run a depthwise convolution of (batch, length, dim) as it was before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel")
        y = F.conv1d(x.mT.contiguous(), conv.weight, padding="same", groups=conv.groups)
    return y.mT.contiguous()


def gradients(case: Case, backend: str) -> Tensor:
    """Collect all gradients of the first step in one vector."""
    net, step = make_step(case, backend)
    found: list[Tensor] = []
    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: found.append(p.grad.flatten()))
    step()
    return torch.cat(found)


def check(case: Case, backends: list[str]) -> None:
    """Compare the backends' gradients.

    Raises:
        SystemExit: They differ.
    """
    expected, *others = (gradients(case, backend) for backend in backends)
    for backend, actual in zip(backends[1:], others, strict=True):
        error = ((actual - expected).norm() / expected.norm()).item()
        if not error < GRADIENT_ERROR:
            raise SystemExit(f"{case}: the gradients of {backend} differ by {error:.1e}")


def profile_step(step: Callable[[], Tensor]) -> Any:
    """Profile one step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    return profiled


def scan_share(profiled: Any) -> float:
    """Return the time in the scan's operators over that in all operators."""
    events = [e for e in profiled.key_averages() if e.device_type == DeviceType.CPU]
    scan = sum(
        e.cpu_time_total for e in events if e.key in (SCAN, f"{SCAN}_train", f"{SCAN}_backward")
    )
    return scan / sum(e.self_cpu_time_total for e in events)


def main() -> None:
    """Print the table, and with --profile the operators."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--profile", action="store_true", help="print the top operators")
    parser.add_argument("--backends", nargs="+", help="default: numba torch before")
    arguments = parser.parse_args()
    default = [b for b in ("numba", "torch") if b in available_backends()] + [BEFORE]
    backends = arguments.backends or default
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()}"
    )
    result = Table(title="one training step, float32")
    for heading in (
        "network",
        "batch",
        "px",
        "mixer",
        "ms",
        "spread",
        "scan's share",
        "x slower",
    ):
        result.add_column(heading, justify="right")
    for case in CASES:
        check(case, backends)
        steps = {backend: make_step(case, backend)[1] for backend in backends}
        seconds = interleave(steps, arguments.rounds, num_warm_up=2)
        for backend in backends:
            profiled = [profile_step(steps[backend]) for _ in range(3)]
            share = statistics.median(map(scan_share, profiled))
            times = seconds[backend]
            spread = (max(times) - min(times)) / 2 / statistics.median(times)
            ratios = map(float.__truediv__, times, seconds[backends[0]])
            result.add_row(
                *(case.variant, str(case.batch), str(case.image_size), backend),
                f"{median_ms(times):.0f}",
                f"± {spread:.0%}",
                f"{share:.1%}",
                f"{statistics.median(ratios):.2f}",
            )
            if arguments.profile:
                rows = profiled[-1].key_averages().table("self_cpu_time_total", row_limit=14)
                print(f"\n{case}, {backend}\n{rows}")
    console.print(result)


if __name__ == "__main__":
    main()
