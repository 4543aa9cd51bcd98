"""Compare an exported file, in its own runtime, with eager mode: logits and latency."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from mambavision_lab.counting import counted
from mambavision_lab.exporters.base import ExportSpec
from mambavision_lab.exporters.runtimes.base import run_module

BATCHES = (1, 3, 8)
TIMED_BATCHES = (1, 8)
_NUM_REPEATS = 5
Predict = Callable[[Tensor], Tensor]  # images to logits


class ParityError(RuntimeError):
    """The exported file does not compute what the network computes."""


@dataclass(frozen=True)
class Parity:
    """One comparison of logits: their largest difference, and the largest logit of eager mode."""

    images: str
    batch: int
    sides: tuple[int, ...]
    difference: float
    largest_logit: float
    passed: bool

    @property
    def size(self) -> str:
        """The sides in words."""
        return " x ".join(map(str, self.sides))


@dataclass(frozen=True)
class Latency:
    """Medians over interleaved repeats, in milliseconds a batch."""

    batch: int
    eager_ms: float
    exported_ms: float


def sizes(spec: ExportSpec) -> list[tuple[int, ...]]:
    """Return sides to compare at: the spec's, and others that need windows to be padded."""
    others = [tuple(side + 32 for side in spec.sides), (320, 480)] if spec.any_size else []
    return [spec.sides, *others]


def compare(run: Predict, spec: ExportSpec, real: Tensor | None, tolerance: float) -> list[Parity]:
    """Compare logits on random and, where given, real images (N, C, H, W), in several batches and sizes.

    The tolerance is absolute, and relative to the largest logit where that exceeds 1.
    """
    rows = []
    eager = run_module(spec.net)
    generator = torch.Generator().manual_seed(0)
    for sides in sizes(spec):
        noise = torch.randn(max(BATCHES), spec.in_chans, *sides, generator=generator)
        kinds = {"random": noise}
        if real is not None:
            repeated = real[torch.arange(max(BATCHES)) % len(real)]
            kinds["real"] = resize(repeated, sides)
        for kind, images in kinds.items():
            for batch in BATCHES:
                expected, actual = eager(images[:batch]), run(images[:batch])
                has_shape = actual.shape == expected.shape
                difference = (actual - expected).abs().max().item() if has_shape else float("inf")
                largest = expected.abs().max().item()
                passed = difference <= tolerance * max(1.0, largest)  # NaN does not
                rows.append(Parity(kind, batch, sides, difference, largest, passed))
    return rows


def time_both(run: Predict, spec: ExportSpec) -> list[Latency]:
    """Time eager mode and the exported file in turns, on as many threads as torch uses."""
    latencies = []
    for batch in TIMED_BATCHES:
        images = torch.randn(batch, spec.in_chans, *spec.sides)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(_NUM_REPEATS + 1):
            for own, call in zip(times, (run_module(spec.net), run), strict=True):
                start = time.perf_counter()
                call(images)
                own.append(1e3 * (time.perf_counter() - start))
        eager, exported = (statistics.median(own[1:]) for own in times)  # the first is warm-up
        latencies.append(Latency(batch, eager, exported))
    return latencies


def require_parity(rows: list[Parity], tolerance: float) -> None:
    """Raise if a comparison failed.

    Raises:
        ParityError: One did; the message names the worst.
    """
    failed = [row for row in rows if not row.passed]
    if failed:
        worst = max(failed, key=lambda row: (row.difference != row.difference, row.difference))
        raise ParityError(
            f"{len(failed)} of {len(rows)} comparisons with eager mode exceed the tolerance {tolerance:g}; "
            f"the worst differs by {worst.difference:.1e} ({worst.images} images, "
            f"batch {worst.batch}, {worst.size}); no file was written"
        )


def resize(images: Tensor, sides: Sequence[int]) -> Tensor:
    """Resize images or volumes (N, C, *sides) to other sides."""
    if tuple(images.shape[2:]) == tuple(sides):
        return images
    if images.ndim == 5:
        return F.interpolate(images, list(sides), mode="trilinear")
    return F.interpolate(images, list(sides), mode="bilinear", antialias=True)


def parity_table(rows: list[Parity]) -> Table:
    """Make a rich table, one row per size and kind of image."""
    table = Table(title="logits: largest difference from eager mode")
    table.add_column("images")
    table.add_column("size")
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    table.add_column("largest logit", justify="right")
    for cells in _parity_cells(rows):
        table.add_row(*cells)
    return table


def latency_table(rows: list[Latency]) -> Table:
    """Make a rich table, one row per batch."""
    table = Table(title=f"latency (ms), {_threads()}")
    for heading in ("batch", "eager", "exported", "exported / eager"):
        table.add_column(heading, justify="right")
    for cells in _latency_cells(rows):
        table.add_row(*cells)
    return table


def write_markdown(
    details: dict[str, str], rows: list[Parity], times: list[Latency], path: Path
) -> None:
    """Write details of the export and both tables as Markdown."""
    lines = [f"# {path.stem}", "", *(f"- {key}: {value}" for key, value in details.items()), ""]
    headings = ["images", "size", *(f"batch {batch}" for batch in BATCHES), "largest logit"]
    lines += [
        "Logits, largest difference from eager mode:",
        "",
        *_rows(headings, _parity_cells(rows)),
        "",
    ]
    lines += [f"Latency in ms, {_threads()}:", ""]
    lines += _rows(["batch", "eager", "exported", "exported / eager"], _latency_cells(times))
    path.write_text("\n".join(lines) + "\n")


def as_json(details: dict[str, str], rows: list[Parity], times: list[Latency]) -> dict[str, Any]:
    """Return details of the export and both tables as plain values."""
    parity, latency = [asdict(row) for row in rows], [asdict(row) for row in times]
    return {**details, "num_threads": torch.get_num_threads(), "parity": parity, "latency": latency}


def _threads() -> str:
    return counted(torch.get_num_threads(), "threads")


def _parity_cells(rows: list[Parity]) -> list[list[str]]:
    groups: dict[tuple[str, str], list[Parity]] = {}
    for row in rows:
        groups.setdefault((row.images, row.size), []).append(row)
    return [
        [
            *key,
            *(f"{row.difference:.1e}" for row in own),
            f"{max(r.largest_logit for r in own):.1f}",
        ]
        for key, own in groups.items()
    ]


def _latency_cells(rows: list[Latency]) -> list[list[str]]:
    return [
        [
            str(r.batch),
            f"{r.eager_ms:.1f}",
            f"{r.exported_ms:.1f}",
            f"{r.exported_ms / r.eager_ms:.2f}",
        ]
        for r in rows
    ]


def _rows(headings: list[str], cells: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [headings, ["---"] * len(headings), *cells]]
