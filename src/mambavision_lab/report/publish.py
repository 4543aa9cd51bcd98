"""Log a report's pictures and tables to TensorBoard and Weights & Biases."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from mambavision_lab.report.figures import curve_figures, quality_figures
from mambavision_lab.report.overlays import overlay
from mambavision_lab.report.page import GROUPS
from mambavision_lab.report.pictures import stored_pictures
from mambavision_lab.report.quality import AnyQuality, Quality, measure_quality
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


def tables(record: RunRecord, quality: AnyQuality | None) -> dict[str, Table]:
    """Make the report's tables; returns (headings, rows) by tag."""
    found: dict[str, Table] = {}
    if record.differences is not None:
        rows_of_settings: list[list[str | int | float]] = [list(row) for row in record.differences]
        found["settings"] = (["setting", "default", "here"], rows_of_settings)
    if quality is not None:
        headings, rows = quality.class_table()
        found["classes"] = (
            ["class", "images", *headings],
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
    for group in GROUPS:
        if (images := record.predictions.get(f"{group}_images")) is not None:
            writer.add_images(f"report/{group}", images, step, dataformats="NHWC")
        if len(overlays := _overlays(record, group)):
            writer.add_images(
                f"report/{group}_overlays", np.stack(overlays), step, dataformats="NHWC"
            )
    for tag, (headings, rows) in tables(record, measure_quality(record.predictions)).items():
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
    for group in GROUPS:
        pictures = stored_pictures(record, group, quality.names) if quality else []
        if pictures:
            content[f"report/{group}"] = [
                wandb.Image(
                    np.repeat(p.pixels, 3, axis=2) if p.pixels.shape[2] == 1 else p.pixels,
                    caption=f"{p.predicted} {p.confidence}, true: {p.true}",
                )
                for p in pictures
            ]
        if len(overlays := _overlays(record, group)):
            content[f"report/{group}_overlays"] = [wandb.Image(pixels) for pixels in overlays]
    logger.experiment.log(content)


def _overlays(record: RunRecord, group: str) -> list[np.ndarray]:
    """Return the overlays of a group of pictures; empty where no maps were stored."""
    stored = record.predictions
    if f"{group}_maps" not in stored:
        return []
    pairs = zip(stored[f"{group}_images"], stored[f"{group}_maps"], strict=True)
    return [overlay(pixels, values) for pixels, values in pairs]


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _tag(title: str) -> str:
    return title.partition(" (")[0].partition(",")[0].lower().replace(" ", "_").replace("-", "")
