"""Measure networks of volumes: python benchmarks/volumes.py (two minutes of one core).

Processor time of training steps (forward and backward, float32, one thread), interleaved, with the peak
memory of each in a process of its own: mambavision_tiny_3d on a volume of 128^3 voxels, per token against
mambavision_tiny on images of 224 pixels; and against a plain 3-D ResNet of equal parameters. (What one mixer
costs up to 65,536 tokens, of images or volumes, is measured by long_images.py.)
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from memory import environment, extra_peak_mb
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

from mambavision_lab.models.create import create_mambavision

RESNET_WIDTH = 21  # 3.5 M parameters, as mambavision_tiny_3d


def plain_resnet(width: int = RESNET_WIDTH, num_classes: int = 1000) -> nn.Module:
    """Make a plain 3-D ResNet of 18 layers from torchvision's blocks."""
    layers: list[nn.Module] = [
        nn.Conv3d(1, width, 7, (1, 2, 2), padding=3, bias=False),
        *(nn.BatchNorm3d(width), nn.ReLU()),
    ]
    wide = width
    for stage in range(4):
        planes, stride = width * 2**stage, 1 if stage == 0 else 2
        shortcut = None
        if stride > 1:
            shortcut = nn.Sequential(
                nn.Conv3d(wide, planes, 1, stride, bias=False), nn.BatchNorm3d(planes)
            )
        layers += [
            BasicBlock(wide, planes, Conv3DSimple, stride, shortcut),
            BasicBlock(planes, planes, Conv3DSimple),
        ]
        wide = planes
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(wide, num_classes)
    )


def tiny_3d(side: int, **options: int | None) -> nn.Module:
    """Make mambavision_tiny_3d for grey volumes of equal sides."""
    sizes = {"in_chans": 1, "image_size": side, "num_slices": side}
    return create_mambavision("mambavision_tiny_3d", **sizes, **options)


# Patches as deep as wide, all mixed together.
CUBES: dict[str, int | None] = {"patch_size": None, "window_slices": None}


# Name -> the network, the shape of its input and its tokens.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "tiny, 224 px, patch 16": (
        lambda: create_mambavision("mambavision_tiny"),
        (3, 224, 224),
        196,
    ),
    "tiny_3d, 128^3": (partial(tiny_3d, 128), (1, 128, 128, 128), 8192),
    "tiny_3d, 128^3, cubes of 16": (partial(tiny_3d, 128, **CUBES), (1, 128, 128, 128), 512),
    "tiny_3d, 64^3": (partial(tiny_3d, 64), (1, 64, 64, 64), 4096),
    "tiny_3d, 64^3, cubes of 8": (partial(tiny_3d, 64, **CUBES), (1, 64, 64, 64), 512),
    "3-D ResNet-18, 64^3": (plain_resnet, (1, 64, 64, 64), 0),
}


def step(net: nn.Module, x: Tensor) -> None:
    """Run forward and backward."""
    net(x).square().sum().backward()
    net.zero_grad()


def prepare(name: str) -> Callable[[], None]:
    """Return a training step of a case."""
    make, shape, _ = CASES[name]
    torch.manual_seed(0)
    return partial(step, make().train(), torch.randn(1, *shape))


def time_cases(num_rounds: int) -> dict[str, list[float]]:
    """Return processor seconds of each case's steps, in rounds of one step of each."""
    steps = {name: prepare(name) for name in CASES}
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for round_ in range(1 + num_rounds):
        for name, call in steps.items():
            start = time.process_time()
            call()
            if round_:
                seconds[name].append(time.process_time() - start)
    return seconds


def peak_mb(name: str) -> float:
    """Measure a case's memory in a process of its own."""
    command = [sys.executable, __file__, "--memory", name]
    output = subprocess.run(
        command, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(json.dumps(extra_peak_mb(prepare(arguments.memory))))
        return
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 140)
    capability = torch.backends.cpu.get_cpu_capability()
    console.print(f"torch {torch.__version__}, Python {platform.python_version()}, {capability}")
    seconds = time_cases(arguments.rounds)
    table = Table("training step of one input", "parameters (M)", "processor s", "spread")
    for heading in ("ms per token", "extra peak (MB)"):
        table.add_column(heading, justify="right")
    for name, (make, _, tokens) in CASES.items():
        median, own = statistics.median(seconds[name]), seconds[name]
        table.add_row(
            name,
            f"{sum(p.numel() for p in make().parameters()) / 1e6:.2f}",
            f"{median:.2f}",
            f"{min(own):.2f} to {max(own):.2f}",
            f"{1000 * median / tokens:.2f}" if tokens else "",
            f"{peak_mb(name):,.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
