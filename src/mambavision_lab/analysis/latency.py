"""Measure latency and peak memory of a forward pass, by image size and batch."""

import csv
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import nn

from mambavision_lab.errors import reason
from mambavision_lab.report.figures import COLORS, DASHES


@dataclass(frozen=True)
class Measurement:
    """One point; latency is the median over repeats, with the fastest and the slowest."""

    image_size: int
    batch_size: int
    latency_ms: float
    fastest_ms: float
    slowest_ms: float
    images_per_s: float
    peak_memory_mib: float


def measure(
    model: nn.Module,
    in_chans: int,
    image_sizes: Sequence[int],
    batch_sizes: Sequence[int],
    *,
    num_slices: int | None = None,
    num_repeats: int = 10,
) -> list[Measurement]:
    """Time the forward pass without gradients, after two calls of warm-up.

    Peak memory is what the pass allocates on top of the weights and its input: on a GPU the
    allocator's own peak, on a CPU the highest sum of allocations that the profiler saw. Volumes have
    num_slices slices, images None.

    Raises:
        ValueError: The network refuses an image size.
    """
    points = []
    first = next(model.parameters())
    model.eval()
    for image_size in image_sizes:
        for batch_size in batch_sizes:
            slices = [] if num_slices is None else [num_slices]
            shape = (batch_size, in_chans, *slices, image_size, image_size)
            images = torch.randn(shape, device=first.device, dtype=first.dtype)
            try:
                points.append(_measure(model, images, num_repeats))
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"image size {image_size}, batch {batch_size}: {reason(error)}"
                ) from error
    return points


def _measure(model: nn.Module, images: torch.Tensor, num_repeats: int) -> Measurement:
    times = []
    with torch.inference_mode():
        for _ in range(2):
            model(images)
        for _ in range(num_repeats):
            start = _now(images.device)
            model(images)
            times.append(1e3 * (_now(images.device) - start))
        peak = _peak_bytes(model, images)
    median = statistics.median(times)
    rate = 1e3 * len(images) / median
    size = images.shape[-1]
    return Measurement(size, len(images), median, min(times), max(times), rate, peak / 2**20)


def _now(device: torch.device) -> float:
    """Return the time in seconds, when a GPU has done what it was given.

    torch.utils.benchmark has such a clock, but importing it searches for a compiler and logs what it
    misses, and its Timer averages blocks of calls, which hides the fastest and the slowest.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _peak_bytes(model: nn.Module, images: torch.Tensor) -> int:
    if images.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(images.device)
        before = torch.cuda.memory_allocated(images.device)
        model(images)
        return torch.cuda.max_memory_allocated(images.device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no hints of the profiler on stderr
    with torch.profiler.profile(profile_memory=True) as profiler:
        model(images)
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def latency_table(points: Sequence[Measurement], device: str) -> Table:
    """Make a rich table."""
    table = Table(title=f"forward pass on {device}")
    headings = (
        "image size",
        "batch",
        "latency (ms)",
        "fastest",
        "slowest",
        "images/s",
        "peak (MiB)",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for p in points:
        numbers = (p.latency_ms, p.fastest_ms, p.slowest_ms, p.images_per_s, p.peak_memory_mib)
        table.add_row(str(p.image_size), str(p.batch_size), *(f"{n:.1f}" for n in numbers))
    return table


def write_csv(points: Sequence[Measurement], path: Path) -> None:
    """Write the points, one per row."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Measurement)])
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)


def plot(points: Sequence[Measurement], title: str, path: Path) -> None:
    """Draw latency and peak memory by image size, one line per batch size."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    panels = (("latency (ms)", "latency_ms"), ("peak memory (MiB)", "peak_memory_mib"))
    for axes, (label, name) in zip(figure.subplots(1, 2), panels, strict=True):
        for index, batch_size in enumerate(sorted({p.batch_size for p in points})):
            own = [p for p in points if p.batch_size == batch_size]
            axes.plot(
                [p.image_size for p in own],
                [getattr(p, name) for p in own],
                DASHES[index % len(DASHES)],
                marker="o",
                color=COLORS[index % len(COLORS)],
                label=f"batch {batch_size}",
            )
        axes.set(xlabel="image height and width (pixels)", ylabel=label, ylim=(0, None))
        axes.set_xticks(sorted({p.image_size for p in points}))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110, facecolor="white")
