"""Log a report's pictures and tables to TensorBoard and Weights & Biases."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from mambavision_lab.report.class_quality import ClassQuality
from mambavision_lab.report.figures import curve_figures, quality_figures
from mambavision_lab.report.pictures import stored_pictures
from mambavision_lab.report.quality import Quality, measure_quality
from mambavision_lab.report.run_record import RunRecord

Table = tuple[list[str], list[list[str | int | float]]]


def publish(record: RunRecord, loggers: Iterable[Logger], step: int) -> None:
    """Log figures, tables and example images under `report/` to the loggers that show them."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            _to_tensorboard(record, logger, step)
        elif isinstance(logger, WandbLogger):
            _to_wandb(record, logger)


def figures(record: RunRecord) -> dict[str, Figure]:
    """Make the report's figures, on white; returns them by tag."""
    quality = measure_quality(record.predictions)
    titled = curve_figures({"run": record.curves}) + (quality_figures(quality) if quality else [])
    for _, figure in titled:
        figure.patch.set(facecolor="white", alpha=1)
    return {_tag(title): figure for title, figure in titled}


def tables(record: RunRecord, quality: ClassQuality | None) -> dict[str, Table]:
    """Make the report's tables; returns (headings, rows) by tag."""
    found: dict[str, Table] = {}
    if record.differences is not None:
        rows_of_settings: list[list[str | int | float]] = [list(row) for row in record.differences]
        found["settings"] = (["setting", "default", "here"], rows_of_settings)
    if quality is not None:
        headings, rows = quality.class_table()
        found["classes"] = (
            ["class", quality.counted, *headings],
            [[name, images, *values] for name, images, values in rows],
        )
    if isinstance(quality, Quality):
        pairs: list[list[str | int | float]] = [list(pair) for pair in quality.confused_pairs()]
        found["frequent_mistakes"] = (["true", "predicted", "images", "share of class"], pairs)
    return found


def _to_tensorboard(record: RunRecord, logger: TensorBoardLogger, step: int) -> None:
    writer = logger.experiment
    for tag, figure in figures(record).items():
        writer.add_image(f"report/{tag}", _pixels(figure), step, dataformats="HWC")
    quality = measure_quality(record.predictions)
    for tag, images in _images(record, quality).items():
        pixels = np.stack([image for image, _ in images])
        writer.add_images(f"report/{tag}", pixels, step, dataformats="NHWC")
    for tag, (headings, rows) in tables(record, quality).items():
        lines: list[list[Any]] = [[*headings], ["---"] * len(headings), *rows]
        text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        writer.add_text(f"report/{tag}", text, step)
    writer.flush()


def _to_wandb(record: RunRecord, logger: WandbLogger) -> None:
    import wandb  # takes long, and is loaded where there is such a logger

    quality = measure_quality(record.predictions)
    content: dict[str, object] = {
        f"report/{tag}": wandb.Image(_pixels(figure)) for tag, figure in figures(record).items()
    }
    for tag, (headings, rows) in tables(record, quality).items():
        content[f"report/{tag}"] = wandb.Table(columns=[*headings], data=rows)
    for tag, images in _images(record, quality).items():
        content[f"report/{tag}"] = [wandb.Image(p, caption=caption) for p, caption in images]
    logger.experiment.log(content)


def _images(
    record: RunRecord, quality: ClassQuality | None
) -> dict[str, list[tuple[np.ndarray, str]]]:
    """Return the pictures of each group and their overlays, (H, W, 3) with a caption, by tag."""
    found: dict[str, list[tuple[np.ndarray, str]]] = {}
    if quality is None:
        return found
    for group in quality.groups:
        pictures = stored_pictures(record, group, quality.names)
        shown = [(p, p.overlay) for p in pictures if p.overlay is not None]
        found[group] = [
            (np.broadcast_to(p.pixels, (*p.pixels.shape[:2], 3)), p.caption) for p in pictures
        ]
        found[f"{group}_overlays"] = [(overlay, p.caption) for p, overlay in shown]
    return {tag: images for tag, images in found.items() if images}


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _tag(title: str) -> str:
    return title.partition(" (")[0].partition(",")[0].lower().replace(" ", "_").replace("-", "")
