"""Compare exported files: size, load time, latency, parity and metric, in a table and a picture."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich import box
from rich.console import JustifyMethod
from rich.table import Table

from mambavision_lab.counting import counted
from mambavision_lab.metrics import format_metric


@dataclass(frozen=True)
class Compared:
    """One format; what was not measured is None.

    Attributes:
        name: The choice of export=.
        file: Name of the file to load.
        megabytes: Size of all its files.
        load_s: Seconds that its runtime took to load it.
        batch1_ms: Latency of one image, in milliseconds.
        batch8_ms: Latency of a batch of eight.
        difference: Largest difference of the logits from eager mode.
        metric: The test metric.
        agreement: Share of the test images, of masks of their pixels, in which it finds what eager mode does.
        missing: Why something was not run, or "".
    """

    name: str
    file: str = ""
    megabytes: float | None = None
    load_s: float | None = None
    batch1_ms: float | None = None
    batch8_ms: float | None = None
    difference: float | None = None
    metric: float | None = None
    agreement: float | None = None
    missing: str = ""


def comparison_table(rows: Sequence[Compared], metric: str) -> Table:
    """Make a rich table, one row per format that was written; metric is the test metric's name."""
    title = f"exported files, {counted(torch.get_num_threads(), 'threads')}"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))  # fits 80 columns
    cells = [_cells(row, metric)[:-1] for row in rows]
    for i, heading in enumerate(("format", *_headings(metric.replace("/", "\n")))):
        justify: JustifyMethod = "right" if i else "left"
        table.add_column(heading.replace(" (", "\n("), justify=justify, no_wrap=True)
    for row in cells:
        table.add_row(*row)
    return table


def write_comparison(rows: Sequence[Compared], metric: str, folder: Path) -> list[str]:
    """Write the rows as comparison.csv, .md and .png into a folder; returns the files' names."""
    with (folder / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Compared)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    headings = ["format", *_headings(metric), "not run"]
    lines = [headings, ["---"] * len(headings), *(_cells(row, metric) for row in rows)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (folder / "comparison.md").write_text(f"{text}\n", encoding="utf-8")
    _plot(
        [row for row in rows if row.name == "eager" or row.file], metric, folder / "comparison.png"
    )
    return [f"comparison.{suffix}" for suffix in ("csv", "md", "png")]


def _headings(metric: str) -> tuple[str, ...]:
    return ("MB", "load (s)", "batch 1 (ms)", "batch 8 (ms)", "parity", metric, "agreement")


def _cells(row: Compared, metric: str) -> list[str]:
    numbers = (row.megabytes, row.load_s, row.batch1_ms, row.batch8_ms)
    return [
        row.name,
        *("" if n is None else f"{n:.2f}" for n in numbers),
        "" if row.difference is None else f"{row.difference:.1e}",
        "" if row.metric is None else format_metric(metric, row.metric),
        "" if row.agreement is None else f"{row.agreement:.2%}",
        row.missing,
    ]


def _plot(rows: Sequence[Compared], metric: str, path: Path) -> None:
    figure = Figure(figsize=(13, 1.6 + 0.4 * len(rows)), layout="constrained")
    names = [row.name for row in rows][::-1]
    panels = (
        ("size (MB)", [row.megabytes for row in rows]),
        ("latency, batch 1 (ms)", [row.batch1_ms for row in rows]),
        ("latency, batch 8 (ms)", [row.batch8_ms for row in rows]),
        (metric, [row.metric for row in rows]),
    )
    for axes, (label, values) in zip(figure.subplots(1, 4, sharey=True), panels, strict=True):
        bars = axes.barh(names, [v or 0 for v in values][::-1], color="#4477aa")
        shown = ["" if v is None else f" {v:.4g}" for v in values][::-1]
        axes.bar_label(bars, shown, fontsize=8)
        axes.set_xlabel(label)
        axes.margins(x=0.25)
    figure.savefig(path, dpi=110, facecolor="white")
