"""What a sweep shows at its end: a table, the best job with its command, a picture."""

import importlib.util
import math
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mambavision_lab.launch.sweeps.jobs import read_records
from mambavision_lab.runs.folder import short_path

PICTURE = "sweep.png"


def report(folder: Path, task: str, metric: str | None, *, is_minimized: bool) -> int:
    """Print the table of a sweep and draw its picture; returns how many jobs failed."""
    records = [*read_records(folder).values()]
    varied = varied_values(records)
    best = best_job(records, metric, is_minimized=is_minimized)
    console = Console(highlight=False)
    console.print(f"sweep: {short_path(folder)}", style="bold", soft_wrap=True)
    table = Table()
    table.add_column("job", justify="right")
    for key in varied:
        table.add_column(key, overflow="fold")
    table.add_column("status")
    table.add_column("seconds", justify="right")
    table.add_column(metric or "value", justify="right")
    for i, record in enumerate(records):
        value = figure(record, metric)
        table.add_row(
            str(record["job"]),
            *(values[i] for values in varied.values()),
            record["status"],
            f"{record['seconds']:.1f}",
            "" if value is None else f"{value:.4f}",
            style="bold green" if record is best else None,
        )
    console.print(table)
    if best is not None:
        again = [f"from_run={short_path(Path(best['folder']))}"]
        if task != "train":  # those start from a training run's folder
            again = [o for o in best["overrides"] if not o.startswith("hydra.")]
        console.print(
            f"best: job {best['job']}, {metric or 'value'} {figure(best, metric):.4f}; again with:\n"
            f"  python {task}.py {shlex.join(again)}",
            soft_wrap=True,
        )
    if importlib.util.find_spec("matplotlib") is None:
        console.print("no picture; for one: pip install matplotlib")
    elif metric is not None and draw(records, varied, metric, folder / PICTURE):
        console.print(f"picture: {short_path(folder / PICTURE)}", soft_wrap=True)
    console.print(f"table: {short_path(folder / 'sweep.csv')}", soft_wrap=True)
    return sum(record["status"] == "failed" for record in records)


def varied_values(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Value of each job for every key that is not the same in all jobs."""
    jobs = [dict(o.lstrip("+").partition("=")[::2] for o in r["overrides"]) for r in records]
    keys = dict.fromkeys(key for job in jobs for key in job if not key.startswith("sweep."))
    columns = {key: [_rounded(job.get(key, "")) for job in jobs] for key in keys}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def figure(record: dict[str, Any], metric: str | None) -> float | None:
    """The figure of a job that the sweep compares, or None."""
    value = record.get("metrics", {}).get(metric, record.get("value"))
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def best_job(
    records: list[dict[str, Any]], metric: str | None, *, is_minimized: bool
) -> dict[str, Any] | None:
    """The finished job with the best figure."""
    ended = [r for r in records if r["status"] == "done" and figure(r, metric) is not None]
    sign = -1 if is_minimized else 1
    return max(ended, key=lambda r: sign * (figure(r, metric) or 0.0), default=None)


def draw(
    records: list[dict[str, Any]], varied: dict[str, list[str]], metric: str, path: Path
) -> bool:
    """Draw the metric over each parameter; returns whether there was anything to draw."""
    figures = [figure(record, metric) for record in records]
    if not varied or all(value is None for value in figures):
        return False
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(4 * len(varied), 3.6), layout="constrained")
    for i, (key, texts) in enumerate(varied.items()):
        axes = sheet.add_subplot(1, len(varied), i + 1)
        numbers = [_number(text) for text in texts]
        positions: list[Any]
        if all(number is not None for number in numbers):
            positions = numbers
            known = [number for number in numbers if number is not None]
            if min(known) > 0 and max(known) >= 8 * min(known):
                axes.set_xscale("log")
        else:
            names = [*dict.fromkeys(texts)]
            positions = [names.index(text) for text in texts]
            axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
            axes.set_xlim(-0.5, len(names) - 0.5)
        for status, marker in (("done", "o"), ("pruned", "x")):
            points = [
                (x, y)
                for x, y, record in zip(positions, figures, records, strict=True)
                if y is not None and record["status"] == status
            ]
            if points:
                across, up = zip(*points, strict=True)
                axes.scatter(across, up, marker=marker, label=status)
        if axes.get_xscale() == "linear" and all(number is not None for number in numbers):
            axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(key)
        axes.grid(alpha=0.3)
        if i == 0:
            axes.set_ylabel(metric)
    if any(record["status"] == "pruned" for record in records):
        sheet.axes[0].legend()
    sheet.savefig(path, dpi=120)
    return True


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rounded(text: str) -> str:
    number = _number(text)
    return text if number is None or len(text) < 8 else f"{number:.4g}"
