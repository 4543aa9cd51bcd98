"""Measure networks of volumes: python benchmarks/volumes.py (about ten minutes of one core).

Processor time of training steps (forward and backward, float32, one thread), interleaved, with the peak
memory of each in a process of its own: mambavision_tiny_3d on a volume of 128^3 voxels, per token against
mambavision_tiny on images of 224 pixels; against a plain 3-D ResNet of equal parameters; and one scan against
one attention over ever more tokens. Writes docs/volumes_scan.png and prints tables.
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
from pathlib import Path

import torch
from long_images import make_layer
from long_images import step as layer_step
from matplotlib.figure import Figure
from memory import environment, extra_peak_mb
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple

from mambavision_lab.models.create import create_mambavision

PICTURE = Path(__file__).parents[1] / "docs" / "volumes_scan.png"
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
RESNET_WIDTH = 21  # 3.5 M parameters, as mambavision_tiny_3d
Row = dict[str, float]


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


def tiny_3d(patch_size: list[int], side: int, window_slices: int | None = None) -> nn.Module:
    """Make mambavision_tiny_3d for grey volumes of equal sides."""
    return create_mambavision(
        "mambavision_tiny_3d",
        **{"in_chans": 1, "image_size": side, "num_slices": side},
        **{"patch_size": patch_size, "window_slices": window_slices},
    )


# Name -> the network, the shape of its input and its tokens.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "tiny, 224 px, patch 16": (
        lambda: create_mambavision("mambavision_tiny"),
        (3, 224, 224),
        196,
    ),
    "tiny_3d, 128^3, patch 16": (partial(tiny_3d, [16, 16, 16], 128), (1, 128, 128, 128), 512),
    "tiny_3d, 128^3, patch 1x16x16, windows of 4 slices": (
        partial(tiny_3d, [1, 16, 16], 128, window_slices=4),
        (1, 128, 128, 128),
        8192,
    ),
    "tiny_3d, 64^3, patch 8": (partial(tiny_3d, [8, 8, 8], 64), (1, 64, 64, 64), 512),
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


def measure_layer(name: str, limit_s: float) -> list[Row]:
    """Return processor seconds and peak memory of forward and backward of one mixer by its tokens."""
    layer, rows = make_layer(name), []
    layer_step(layer, torch.randn(1, 16, 192, requires_grad=True))
    for length in LENGTHS:
        if rows and rows[-1]["seconds"] * (length / rows[-1]["tokens"]) ** 2 > limit_s:
            break
        x = torch.randn(1, length, 192, requires_grad=True)
        peak_mb = extra_peak_mb(partial(layer_step, layer, x))
        times = []
        for _ in range(3):
            start = time.process_time()
            layer_step(layer, x)
            times.append(time.process_time() - start)
        rows.append({"tokens": length, "seconds": statistics.median(times), "peak_mb": peak_mb})
    return rows


def apart(*arguments: str) -> object:
    """Run a part of this file in a process of its own, whose memory is that part's."""
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(
        command, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return json.loads(output.splitlines()[-1])


def draw(curves: dict[str, list[Row]]) -> Figure:
    """Plot time and memory against tokens, both axes logarithmic."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = (("seconds", "processor seconds"), ("peak_mb", "extra peak memory (MB)"))
    for axes, (key, label) in zip(figure.subplots(1, 2), panels, strict=True):
        for (name, rows), colour in zip(curves.items(), ("C0", "C3"), strict=True):
            tokens, values = [row["tokens"] for row in rows], [row[key] for row in rows]
            axes.plot(tokens, values, "-o", color=colour, markersize=4, label=name)
        axes.set(xscale="log", yscale="log", ylabel=label, xlabel="tokens of a volume")
        axes.set_xticks(LENGTHS[::2], [f"{length:,}" for length in LENGTHS[::2]])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("One mixer of mambavision_tiny_3d, forward and backward, one thread")
    return figure


def main() -> None:
    """Print the tables and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60, help="processor seconds of one layer")
    parser.add_argument("--layer", help=argparse.SUPPRESS)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.layer:
        print(json.dumps(measure_layer(arguments.layer, arguments.limit)))
        return
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
            f"{apart('--memory', name):,.0f}",
        )
    console.print(table)
    curves: dict[str, list[Row]] = {
        name: apart("--layer", name, "--limit", str(arguments.limit))  # type: ignore[misc]
        for name in ("scan", "attention")
    }
    rows = Table("mixer", "tokens", "processor s", "us per token", "extra peak (MB)")
    for name, found in curves.items():
        for row in found:
            per_token = 1e6 * row["seconds"] / row["tokens"]
            rows.add_row(
                *(name, f"{row['tokens']:,.0f}", f"{row['seconds']:.3f}", f"{per_token:.1f}"),
                f"{row['peak_mb']:,.0f}",
            )
    console.print(rows)
    draw(curves).savefig(PICTURE, dpi=110)
    console.print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
