"""Render the HTML pages; each is a single file that loads nothing else."""

import base64
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from mambavision_lab.metrics import format_metric
from mambavision_lab.report.class_quality import ClassQuality
from mambavision_lab.report.figures import INK, curve_figures, quality_figures, run_names
from mambavision_lab.report.pictures import Picture, stored_pictures
from mambavision_lab.report.quality import Quality, measure_quality
from mambavision_lab.report.run_record import RunRecord
from mambavision_lab.runs.differences import setting_text


def render_report(record: RunRecord) -> str:
    """Render the page of one run."""
    quality = measure_quality(record.predictions)
    return load_template("report.html.j2").render(
        record=record,
        title=record.name,
        environment=_environment(record),
        results=[(name, format_metric(name, value)) for name, value in record.metrics.items()],
        curves=[(t, svg(f)) for t, f in curve_figures({"run": record.curves})],
        notes=_notes(record),
        quality=quality,
        **_quality(record, quality),
        config=sorted((key, setting_text(value)) for key, value in record.config.items()),
    )


def render_comparison(records: Sequence[RunRecord]) -> str:
    """Render the page of several runs: their results, settings that differ, curves over each other."""
    # By number alone: names are too long for a legend.
    runs = {f"run {index}": record.curves for index, record in enumerate(records, start=1)}
    return load_template("comparison.html.j2").render(
        title=f"{len(records)} runs compared",
        names=run_names(records),
        curves=[(t, svg(f)) for t, f in curve_figures(runs)],
        settings=differing_settings(records),
        results=results_table(records),
        folders=[str(record.folder) for record in records],
    )


def differing_settings(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """List (setting, its value in each run) for the settings that are not the same in all runs."""
    keys = dict.fromkeys(key for record in records for key in record.config)
    rows = [(key, [_setting(record, key) for record in records]) for key in keys]
    return [(k, v) for k, v in rows if len(set(v)) > 1 and k.partition(".")[0] != "paths"]


def _setting(record: RunRecord, key: str) -> str:
    """Format a setting without the run's own folder, a class without its module."""
    value = record.config.get(key)
    text = "-" if value in (None, "") else setting_text(value).replace(str(record.folder), "RUN")
    return text.rpartition(".")[2] if key.endswith("._target_") else text


def results_table(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """List (metric, its value in each run), after how each run ended."""
    keys = dict.fromkeys(key for record in records for key in record.metrics)
    rows = [
        (k, [format_metric(k, r.metrics[k]) if k in r.metrics else "-" for r in records])
        for k in keys
    ]
    return [("ended", [r.outcome.get("status", "unknown") for r in records]), *rows]


def svg(figure: Figure) -> Markup:
    """Render a figure as inline SVG that takes the page's text colour and the available width."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 10}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    prefix = f"f{zlib.crc32(text.encode())}-"  # ids are the page's, not the figure's
    text = re.sub(r'(\bid=")', rf"\1{prefix}", text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{prefix}", text)
    return Markup(
        re.sub(r'^<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1).replace(
            ' height="', ' data-height="', 1
        )
    )


def load_template(name: str) -> jinja2.Template:
    """Load a page's template."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template(name)


def _breakable(setting: str) -> Markup:
    """Let a setting's name break after its dots and underscores."""
    return Markup(re.sub(r"([._])(?=.)", r"\1<wbr>", str(escape(setting))))


def _environment(record: RunRecord) -> list[tuple[str, str]]:
    """List the run's code, machine and packages as (label, value), where they are known."""
    known = record.provenance
    hardware, git = known.get("hardware") or {}, known.get("git") or {}
    machine = [
        f"{value} cores" if key == "num_cores" else str(value)
        for key, value in hardware.items()
        if value and key != "gpus"
    ]
    versions = [f"{name} {v}" for name, v in (known.get("packages") or {}).items() if v]
    rows = [
        ("folder", record.folder),
        ("started", known.get("time")),
        ("seed", known.get("seed")),
        ("commit", f"{git.get('commit') or ''}{' + changes' if git.get('is_dirty') else ''}"),
        ("machine", ", ".join(machine)),
        ("GPUs", ", ".join(hardware.get("gpus", []))),
        ("python", known.get("python")),
        ("packages", ", ".join(versions)),
    ]
    return [(label, str(value)) for label, value in rows if value not in (None, "")]


def _notes(record: RunRecord) -> list[str]:
    """List what is missing, and why."""
    notes = []
    if not record.curves:
        notes.append("No curves: metrics.csv is missing or empty (logger=csv writes it).")
    bad = [n for n, (_, v) in record.curves.items() if not np.isfinite(v).all()]
    if bad:
        notes.append(f"Not finite at some steps, left out of the curves: {', '.join(bad)}.")
    if not record.predictions:
        notes.append("No test predictions: the run did not reach its test, or did not record them.")
    elif len(record.predictions.get("class_names", [])) == 0:
        notes.append("The run stored no class names; classes are numbers.")
    return notes


def _quality(record: RunRecord, quality: ClassQuality | None) -> dict[str, Any]:
    """Return what the page shows of the test's predictions; nothing without them."""
    if quality is None:
        return {}
    titles = quality.groups.items()
    groups = [(title, _pictures(record, group, quality.names)) for group, title in titles]
    return {
        "quality_figures": [(t, svg(f)) for t, f in quality_figures(quality)],
        "class_headings": quality.class_table()[0],
        "classes": _classes(quality),
        "confused_pairs": quality.confused_pairs() if isinstance(quality, Quality) else None,
        "groups": groups,
        "has_strips": any(picture.is_strip for _, pictures in groups for *_, picture in pictures),
    }


def _classes(quality: ClassQuality) -> list[tuple[str, int, list[str]]]:
    """List (name, test images, values in percent) of each class."""
    _, rows = quality.class_table()
    percent = [["-" if np.isnan(v) else f"{100 * v:.1f}" for v in values] for *_, values in rows]
    return [(name, images, own) for (name, images, _), own in zip(rows, percent, strict=True)]


def _pictures(
    record: RunRecord, group: str, names: list[str]
) -> list[tuple[str, str | None, Picture]]:
    """List the pictures of a group, each with its address and that of its overlay."""
    return [
        (data_url(p.pixels), None if p.overlay is None else data_url(p.overlay), p)
        for p in stored_pictures(record, group, names)
    ]


def data_url(pixels: np.ndarray) -> str:
    """Encode an image (H, W, C) uint8 as a PNG inside a URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
