"""Draw the figures of a report, as matplotlib figures without a window.

Colours: Okabe and Ito's set, which readers with any colour vision tell apart, and the sequential map
cividis. Text and axes are drawn in INK, which the page replaces by the colour of its own text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mambavision_lab.report.class_quality import ClassQuality
from mambavision_lab.report.quality import Quality
from mambavision_lab.report.run_record import RunRecord

INK = "#3b3b3c"  # a grey that nothing else uses
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", ":", "-.")
MAX_POINTS = 400  # of one line; longer curves are thinned out
MAX_NAMED = 24  # classes that fit an axis by name

# Title, axis label with unit, logarithmic where it spans decades, and the lines: (metric, its label).
PANELS: tuple[tuple[str, str, bool, tuple[tuple[str, str], ...]], ...] = (
    (
        "Loss",
        "loss",
        False,
        (
            ("train/loss", "train, as trained"),
            ("val/loss", "val, cross-entropy"),
            ("val_raw/loss", "val, cross-entropy, raw weights"),
        ),
    ),
    (
        "Top-1 accuracy",
        "correct images (%)",
        False,
        (("train/acc1", "train"), ("val/acc1", "val"), ("val_raw/acc1", "val, raw weights")),
    ),
    (
        "Mean Dice",
        "Dice (%)",
        False,
        (("train/dice", "train"), ("val/dice", "val"), ("val_raw/dice", "val, raw weights")),
    ),
    (
        "Mean IoU",
        "IoU (%)",
        False,
        (("val/miou", "val"), ("val_raw/miou", "val, raw weights")),
    ),
    (
        "Mean average precision",
        "mAP (%)",
        False,
        (("val/map", "val"), ("val_raw/map", "val, raw weights")),
    ),
    (
        "F1 at a probability of 0.5, over the classes",
        "F1 (%)",
        False,
        (
            ("train/f1_macro", "train"),
            ("val/f1_macro", "val"),
            ("val_raw/f1_macro", "val, raw weights"),
        ),
    ),
    ("Learning rate", "rate (1)", False, (("lr", "rate"),)),
    ("Gradient norm, before clipping", "2-norm (1)", True, (("train/grad_norm", "norm"),)),
    ("Training speed", "images/s", False, (("train/images_per_s", "speed"),)),
)
# Axes of the panels that only one kind of labels has.
_OF_ONE_CLASS = ("correct images (%)",)
_OF_SEVERAL = ("mAP (%)", "F1 (%)")
_OF_MASKS = ("Dice (%)", "IoU (%)")
Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]


def curve_figures(runs: Mapping[str, Curves]) -> list[tuple[str, Figure]]:
    """Draw each panel that some run has metrics for, as (title, figure).

    Args:
        runs: Name -> curves, as `read_curves` returns them; several are drawn over each other.
    """
    figures = []
    for panel in PANELS:
        if any(_has(curves, panel) for curves in runs.values()):
            figure, axes = new_figure()
            draw_panel(axes, panel, runs)
            figures.append((panel[0], figure))
    return figures


def all_curves(runs: Mapping[str, Curves]) -> Figure:
    """Draw all panels in one figure, those without metrics as "not recorded"."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.subplots(2, 3).ravel()
    left_out = {*_OF_SEVERAL, *_OF_MASKS}
    for metric, own in (("val/map", _OF_SEVERAL), ("val/dice", _OF_MASKS)):
        if any(metric in curves for curves in runs.values()):
            left_out = {*_OF_ONE_CLASS, *_OF_SEVERAL, *_OF_MASKS} - {*own}
    panels = [panel for panel in PANELS if panel[1] not in left_out]
    for axes, panel in zip(grid, panels, strict=False):
        axes.set_title(panel[0])
        if any(_has(curves, panel) for curves in runs.values()):
            draw_panel(axes, panel, runs)
        else:
            axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
            axes.set_axis_off()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure


def draw_panel(axes: Axes, panel: Any, runs: Mapping[str, Curves]) -> None:
    """Draw one of PANELS: a colour for each run, a dash for each line of the panel."""
    _, label, is_log, lines = panel
    scale = 100 if label.endswith("(%)") else 1
    for run_index, (run, curves) in enumerate(runs.items()):
        for line_index, (name, line) in enumerate(lines):
            steps, values = _curve(curves, name)
            if len(steps) == 0:
                continue
            color = COLORS[(run_index if len(runs) > 1 else line_index) % len(COLORS)]
            dash = DASHES[line_index] if len(runs) > 1 else "-"
            text = line if len(runs) == 1 else f"{run} ({line})" if len(lines) > 1 else run
            marker = "o" if len(steps) < 30 else ""
            axes.plot(
                steps, scale * values, dash, color=color, label=text, marker=marker, markersize=3
            )
    values = np.concatenate([_curve(curves, lines[0][0])[1] for curves in runs.values()])
    positive = values[values > 0]
    if is_log and len(positive) and positive.max() > 20 * positive.min():
        axes.set_yscale("log")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(alpha=0.25)
    if len(lines) > 1 or len(runs) > 1:
        axes.legend(frameon=False, fontsize=8 if len(runs) > 1 else 10)
    _use_ink(axes)


def confusion_figure(quality: Quality) -> Figure:
    """Draw the share of each true class by predicted class, with names of classes where they fit."""
    count = len(quality.names)
    totals = quality.confusion.sum(axis=1, keepdims=True)
    shares = 100 * quality.confusion / np.maximum(totals, 1)
    size = 2.6 + 0.22 * min(count, MAX_NAMED)  # small, so that the numbers are large on a phone
    figure, axes = new_figure(size, size + 0.5)
    picture = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes, location="top", shrink=0.8, fraction=0.05)
    bar.set_label("share of the true class (%)", color=INK)
    figure.axes[-1].tick_params(colors=INK)
    if count <= MAX_NAMED:
        names = [shorten(name, 14) for name in quality.names]
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
    if count <= 12:
        for (row, column), images in np.ndenumerate(quality.confusion):
            color = "#000000" if shares[row, column] > 55 else "#ffffff"
            axes.text(column, row, str(images), ha="center", va="center", color=color, fontsize=9)
    axes.set_xlabel("predicted class" + ("" if count <= MAX_NAMED else " (number)"))
    axes.set_ylabel("true class" + ("" if count <= MAX_NAMED else " (number)"))
    _use_ink(axes)
    return figure


def calibration_figure(quality: Quality) -> Figure:
    """Draw the share of right predictions by confidence, with the number of images below."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    figure.patch.set_alpha(0)
    axes, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    confidence, share, images = quality.bins.T
    axes.plot([0, 100], [0, 100], "--", color=INK, linewidth=1, label="perfectly calibrated")
    axes.plot(
        100 * confidence, 100 * share, "o-", color=COLORS[0], label=f"ECE {100 * quality.ece:.1f} %"
    )
    axes.set_ylabel("correct images (%)")
    axes.set(xlim=(0, 100), ylim=(0, 103))
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    below.bar(100 * confidence, images, width=4.5, color=COLORS[0])
    below.set_ylabel("images")
    below.set_xlabel("confidence of the predicted class (%)")
    for part in (axes, below):
        part.grid(alpha=0.25)
        _use_ink(part)
    return figure


def class_figure(quality: ClassQuality) -> Figure:
    """Draw two values, such as precision and recall: by class where names fit, else sorted over all."""
    count = len(quality.names)
    figure, axes = new_figure(5.2, 4.0 if count > MAX_NAMED else 1.6 + 0.27 * count)
    # A ring and a dot, which are both visible where both values are equal.
    looks: Sequence[dict[str, Any]] = (
        {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 2},
        {"markersize": 4},
    )
    series = quality.class_values()
    for index, ((name, values), look) in enumerate(zip(series, looks, strict=True)):
        if count <= MAX_NAMED:
            axes.plot(100 * values, np.arange(count), "o", color=COLORS[index], label=name, **look)
        else:
            axes.plot(100 * np.sort(values), color=COLORS[index], ls=DASHES[index], label=name)
    if count <= MAX_NAMED:
        axes.set_yticks(range(count), [shorten(name, 18) for name in quality.names])
        axes.invert_yaxis()
        # Only the range in use, so that classes a few percent apart can be distinguished.
        lowest = 100 * np.nanmin([*(values for _, values in series), np.ones(count)])
        left = 10 * np.floor(lowest / 10) - (5 if lowest % 10 < 2 else 0)
        axes.set_xlim(max(left, -3), 100 + 0.03 * (100 - left))
        axes.set_xlabel(f"of the class's {quality.counted} (%)")
    else:
        axes.set_ylim(-3, 103)
        names = ", ".join(name for name, _ in series)
        axes.set(xlabel="classes, sorted by value", ylabel=f"{names} (%)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _use_ink(axes)
    return figure


def quality_figures(quality: ClassQuality) -> list[tuple[str, Figure]]:
    """Draw all figures of a test's predictions, as (title, figure)."""
    by_class = (quality.title, class_figure(quality))
    if not isinstance(quality, Quality):
        return [by_class]
    return [
        ("Confusion matrix", confusion_figure(quality)),
        by_class,
        (f"Calibration (ECE {100 * quality.ece:.1f} %)", calibration_figure(quality)),
    ]


def run_names(records: Sequence[RunRecord]) -> list[str]:
    """Number the runs and name them, without the part that all names share."""
    parents = {record.folder.parent.name for record in records}
    names = [record.folder.name if len(parents) == 1 else record.name for record in records]
    return [f"{index}: {name}" for index, name in enumerate(names, start=1)]


def new_figure(width: float = 5.2, height: float = 3.4) -> tuple[Figure, Axes]:
    """Make a figure with one axes on a transparent background; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    return figure, figure.subplots()


def shorten(text: str, length: int) -> str:
    """Cut a long name and mark the cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _has(curves: Curves, panel: Any) -> bool:
    return any(len(_curve(curves, name)[0]) for name, _ in panel[3])


def _curve(curves: Curves, name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "lr":  # groups share one schedule; with rates that fall by layer, the highest
        rates = [curve for key, curve in curves.items() if key.startswith("lr-")]
        if not rates:
            return np.array([]), np.array([])
        steps, values = max(rates, key=lambda curve: np.nanmax(curve[1]))
    else:
        steps, values = curves.get(name, (np.array([]), np.array([])))
    every = max(1, -(-len(steps) // MAX_POINTS))
    keep = np.unique(np.r_[0 : len(steps) : every, len(steps) - 1]) if len(steps) else slice(0)
    return steps[keep], np.where(np.isinf(values), np.nan, values)[keep]


def _use_ink(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=INK, which="both")
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)
    legend = axes.get_legend()
    for text in legend.get_texts() if legend else ():
        text.set_color(INK)
