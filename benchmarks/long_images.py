"""Draw what a token mixer costs against tokens: python benchmarks/long_images.py (about five minutes).

One layer of the width of mambavision_tiny (192), batch 1, float32, on all cores: MambaVision's mixer, its
scan on the backend `auto`, and attention as in our networks, `scaled_dot_product_attention`. Forward, and
forward with backward; peak memory of the latter. A layer is stopped before a size that would take it
longer than --limit seconds. Writes benchmarks/long_images.png and prints a table.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from memory import environment, extra_peak_mb
from rich.console import Console
from rich.table import Table
from timing import interleave, median_ms
from torch import Tensor, nn

from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.mixer import MambaVisionMixer

SIDES = (14, 20, 32, 48, 64, 96, 128, 192, 256)  # tokens; 16 px each
DIM, NUM_HEADS = 192, 3
LAYERS = ("scan", "attention")
Row = dict[str, float]


def make_layer(name: str) -> nn.Module:
    """Make a token mixer of mambavision_tiny."""
    torch.manual_seed(0)
    return MambaVisionMixer(DIM) if name == "scan" else Attention(DIM, num_heads=NUM_HEADS)


def forward(layer: nn.Module, x: Tensor) -> None:
    """Run inference."""
    with torch.inference_mode():
        layer(x)


def step(layer: nn.Module, x: Tensor) -> None:
    """Run forward and backward, with gradients of the tokens and of all weights."""
    y = layer(x)
    torch.autograd.grad(y, [x, *layer.parameters()], torch.ones_like(y))


def measure(name: str, sides: list[int], limit_s: float) -> list[Row]:
    """Measure a row per number of tokens: forward_ms, step_ms and peak_mb; stops at the limit."""
    layer, rows = make_layer(name), []
    step(layer, torch.randn(1, 16, DIM, requires_grad=True))
    for side in sides:
        tokens = side * side
        if rows and rows[-1]["step_ms"] * (tokens / rows[-1]["tokens"]) ** 2 > 1000 * limit_s:
            break
        x = torch.randn(1, tokens, DIM, requires_grad=True)
        peak_mb = extra_peak_mb(partial(step, layer, x))
        calls = {"forward_ms": partial(forward, layer, x), "step_ms": partial(step, layer, x)}
        seconds = interleave(calls, 9, num_warm_up=0, enough_s=1, settle_s=0.2)
        medians = {kind: median_ms(values) for kind, values in seconds.items()}
        rows.append({"tokens": tokens, "peak_mb": peak_mb} | medians)
    return rows


def measure_apart(name: str, sides: list[int], limit_s: float, threads: int) -> list[Row]:
    """Run `measure` in a process of its own, whose memory is that layer's."""
    command = [sys.executable, __file__, "--measure", name, "--limit", str(limit_s), "--sides"]
    command += [str(side) for side in sides]
    output = subprocess.run(
        command,
        env=environment() | {"OMP_NUM_THREADS": str(threads)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


def draw(curves: dict[str, list[Row]], machine: str) -> Figure:
    """Plot time and memory against tokens, both axes logarithmic."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for (name, rows), colour in zip(curves.items(), ("C0", "C3"), strict=True):
        tokens = [row["tokens"] for row in rows]
        for kind, label, style in (
            ("step_ms", "forward + backward", "-o"),
            ("forward_ms", "forward", "--o"),
        ):
            times = [row[kind] for row in rows]
            time_axes.plot(
                tokens, times, style, color=colour, markersize=4, label=f"{name}, {label}"
            )
        peaks = [row["peak_mb"] for row in rows]
        memory_axes.plot(tokens, peaks, "-o", color=colour, markersize=4, label=name)
    for axes, title, unit in (
        (time_axes, "Time of one layer", "ms"),
        (memory_axes, "Extra peak memory, forward + backward", "MB"),
    ):
        axes.set(xscale="log", yscale="log", title=title, ylabel=unit)
        axes.set_xlabel("tokens (pixels per side at 16 px a token)")
        ticks = [side * side for side in (14, 32, 64, 128, 256)]
        labels = [f"{tick:,}\n{16 * round(tick**0.5)} px" for tick in ticks]
        axes.set_xticks(ticks, labels)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"MambaVision's mixer and attention, width {DIM}, batch 1, float32 ({machine})")
    return figure


def table(curves: dict[str, list[Row]]) -> Table:
    """Make the table, a row per number of tokens."""
    result = Table(title="one layer, medians, ms and MB; attention / scan in the last columns")
    kinds = {"forward_ms": "forward", "step_ms": "both", "peak_mb": "peak MB"}
    headings = [f"{name} {kind}" for name in LAYERS for kind in kinds.values()]
    for heading in ("tokens", *headings, *(f"{kind} ratio" for kind in kinds.values())):
        result.add_column(heading, justify="right")
    for i, row in enumerate(curves["scan"]):
        rows = [row, *curves["attention"][i : i + 1]]
        cells = [f"{r[kind]:.3g}" for r in rows for kind in kinds]
        if len(rows) == 2:
            cells += [f"{rows[1][kind] / row[kind]:.3g}" for kind in kinds]
        result.add_row(f"{row['tokens']:,.0f}", *cells)
    return result


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=float, default=60, help="seconds of one step")
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES), help="tokens a side")
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".png")))
    parser.add_argument("--measure", choices=LAYERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.sides, arguments.limit)))
        return
    threads = os.cpu_count() or 1
    curves = {
        name: measure_apart(name, arguments.sides, arguments.limit, threads) for name in LAYERS
    }
    machine = f"{threads} cores, {torch.backends.cpu.get_cpu_capability()}"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{versions}, {machine}", table(curves))
    for name, rows in curves.items():
        if len(rows) < len(arguments.sides):
            tokens = arguments.sides[len(rows)] ** 2
            console.print(f"{name} was stopped before {tokens:,} tokens (--limit)")
    draw(curves, f"{machine}, torch {torch.__version__.split('+')[0]}").savefig(
        arguments.output, dpi=130
    )
    console.print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
