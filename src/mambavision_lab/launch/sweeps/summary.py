"""Show the outcome of a sweep: a table, the best job with its command, a picture."""

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mambavision_lab.config.overrides import shell_line
from mambavision_lab.launch.sweeps.jobs import TABLE, read_records
from mambavision_lab.metrics import format_metric, is_lower_better
from mambavision_lab.runs.folder import short_path

PICTURE = "sweep.png"


def show_summary(folder: Path, task: str, metric: str | None) -> int:
    """Print the table of a sweep, its best job, and where its files are; draw its picture.

    Args:
        folder: The sweep's folder.
        task: Name of the entry point that ran each job, such as "train".
        metric: Name of the metric that compares the jobs, or None for the value that a task returns.

    Returns:
        Number of jobs that failed.
    """
    records = [*read_records(folder).values()]
    name = metric or "value"
    varied = varied_values(records)
    best = best_job(records, metric)
    console = Console(highlight=False, markup=False)
    console.print(f"sweep: {short_path(folder)}", style="bold", soft_wrap=True)
    table = Table()
    table.add_column("job", justify="right")
    for key in varied:
        table.add_column(key, overflow="fold")
    table.add_column("status")
    table.add_column("seconds", justify="right")
    table.add_column(name, justify="right")
    for i, record in enumerate(records):
        table.add_row(
            str(record["job"]),
            *(values[i] for values in varied.values()),
            record["status"],
            f"{record['seconds']:.1f}",
            _shown(record, metric),
            style="bold green" if record is best else None,
        )
    console.print(table)
    if best is not None:
        overrides = [f"from_run={short_path(Path(best['folder']))}"]
        if task != "train":  # those start from a training run's folder
            overrides = [o for o in best["overrides"] if not o.startswith("hydra.")]
        console.print(
            f"best: job {best['job']}, {name} {_shown(best, metric)}; to repeat it:\n"
            f"  python {task}.py {shell_line(overrides)}",
            soft_wrap=True,
        )
    if metric is not None and draw_metric(records, varied, metric, folder / PICTURE):
        console.print(f"picture: {short_path(folder / PICTURE)}", soft_wrap=True)
    console.print(f"table: {short_path(folder / TABLE)}", soft_wrap=True)
    return sum(record["status"] == "failed" for record in records)


def varied_values(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return, for every key that differs between jobs, its value in each job."""
    jobs = [dict(o.lstrip("+").partition("=")[::2] for o in r["overrides"]) for r in records]
    keys = dict.fromkeys(key for job in jobs for key in job if not key.startswith("sweep."))
    columns = {key: [_rounded(job.get(key, "")) for job in jobs] for key in keys}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def metric_of(record: dict[str, Any], metric: str | None) -> float | None:
    """Return a job's value of the metric that compares the jobs, or None where it has no finite one."""
    value = record.get("metrics", {}).get(metric, record.get("value"))
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def best_job(records: list[dict[str, Any]], metric: str | None) -> dict[str, Any] | None:
    """Return the record of the finished job with the best metric, or None where there is none."""
    done = [r for r in records if r["status"] == "done" and metric_of(r, metric) is not None]
    sign = -1 if is_lower_better(metric) else 1
    return max(done, key=lambda r: sign * (metric_of(r, metric) or 0.0), default=None)


def draw_metric(
    records: list[dict[str, Any]], varied: dict[str, list[str]], metric: str, path: Path
) -> bool:
    """Draw the metric over each parameter into a PNG; returns whether there was anything to draw."""
    results = [metric_of(record, metric) for record in records]
    if not varied or all(value is None for value in results):
        return False
    figure = Figure(figsize=(4 * len(varied), 3.6), layout="constrained")
    for i, (key, texts) in enumerate(varied.items()):
        axes = figure.add_subplot(1, len(varied), i + 1)
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
                for x, y, record in zip(positions, results, records, strict=True)
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
        figure.axes[0].legend()
    figure.savefig(path, dpi=120)
    return True


def _shown(record: dict[str, Any], metric: str | None) -> str:
    """Format a job's metric and the number of images that it was measured on, as far as known."""
    value = metric_of(record, metric)
    if value is None:
        return ""
    split = (metric or "test").partition("/")[0]
    count = record.get("metrics", {}).get(f"{split}/num_images")
    images = "" if count is None else f" ({format_metric('num_images', count)} images)"
    return format_metric(metric or "value", value) + images


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rounded(text: str) -> str:
    number = _number(text)
    return text if number is None or len(text) < 8 else f"{number:.4g}"
