"""Explain images: a page, overlays as files, and measures of the methods' faithfulness."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from PIL import Image
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mambavision_lab.counting import counted
from mambavision_lab.data.volumes import side_by_side
from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers.base import Explanation
from mambavision_lab.files import write_atomically
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.report.explain_page import ShownImage, ShownMap, render_explanations
from mambavision_lab.report.overlays import enlarge, overlay
from mambavision_lab.runs.folder import open_run_folder, short_path, write_json
from mambavision_lab.tasks.console import console, printable
from mambavision_lab.tasks.explain_images import NamedImage, open_data, read_images, test_images
from mambavision_lab.tasks.explain_measures import Measured, measure_methods
from mambavision_lab.tasks.explain_network import network_figures


def explain(cfg: DictConfig) -> None:
    """Write `explain.html`, `overlays/` and, where asked for, `measures.json` into the run's folder.

    Args:
        cfg: The composed config, as in `configs/explain.yaml`.

    Raises:
        ConfigError: There are no images, or a method, a class or the data do not fit the network.
    """
    inference = MambaVisionInference(
        cfg.ckpt_path, device=cfg.device, scan_backend=cfg.ops.selective_scan.backend
    )
    inference.require_labels("explain.py")
    if cfg.measure and inference.is_multilabel:
        raise ConfigError(
            "measure=true: deletion and insertion follow the one class of an image, and this network gives "
            "several labels; leave it out"
        )
    needs_data = cfg.images is None or cfg.measure or cfg.network
    data = open_data(cfg, inference) if needs_data else None
    if cfg.images is not None:
        images, skipped = read_images(cfg.images, inference, cfg.max_images)
    else:
        assert data is not None
        images, skipped = [*test_images(data, cfg.max_images)], {}
    targets = [_target(cfg.target, image, inference) for image in images]
    explain_one(inference, images[0], targets[0], cfg.method, cfg.top_k)  # refuses before a folder
    folder = open_run_folder(cfg, is_latest=False)
    shown = []
    pairs = [*zip(images, targets, strict=True)]
    for image, target in track(pairs, "explain", console=console):
        shown.append(explain_one(inference, image, target, cfg.method, cfg.top_k))
    save_overlays(shown, folder / "overlays")
    measured = None
    if cfg.measure:
        assert data is not None
        measured = measure_methods(inference, data, cfg.method, cfg.num_measured)
        write_json(measured.as_json(), folder / "measures.json")
        _print_measures(measured)
    figures = list(measured.figures()) if measured else []
    if cfg.network:
        assert data is not None
        figures += network_figures(inference, data)
    page = render_explanations(
        f"What {cfg.run.name if cfg.run else 'the network'} looks at",
        shown,
        notes=_notes(measured, skipped),
        table=measured.table() if measured else None,
        figures=figures,
        with_layers=cfg.layers,
    )
    write_atomically(folder / "explain.html", page)
    write_json({"images": len(images), "skipped": skipped}, folder / "summary.json")
    noun = inference.preparation.kind.noun
    console.print(f"{counted(len(images), noun)} explained, {len(skipped)} skipped")
    console.print(f"written: {short_path(folder)}/explain.html and overlays", soft_wrap=True)


def explain_one(
    inference: MambaVisionInference,
    image: NamedImage,
    target: str | None,
    methods: Sequence[str],
    top_k: int,
) -> ShownImage:
    """Explain one image with each method; target None is the predicted class."""
    names = inference.require_class_names()
    (ranking,) = inference.rank(image.pixels[None], top_k, 0.0)
    number = names.index(ranking[0][0] if target is None else target)
    found = inference.explain_pixels(image.pixels, methods, number)
    return ShownImage(
        image.name,
        picture_pixels(image),
        ranking[:top_k],
        names[number],
        image.true,
        [_shown_map(name, explanation) for name, explanation in found.items()],
    )


def picture_pixels(image: NamedImage) -> np.ndarray:
    """Return an image as a picture, (H, W, C) with C = 1 or 3; of a volume or clip slices side by side."""
    pixels = side_by_side(image.pixels if image.pixels.shape[0] in (1, 3) else image.pixels[:1])
    return pixels.permute(1, 2, 0).cpu().numpy()


def _shown_map(name: str, explanation: Explanation) -> ShownMap:
    layers = {key: _plane(layer) for key, layer in explanation.layers.items()}
    values = _plane(explanation.map)
    return ShownMap(name, values, explanation.source, explanation.notes, layers)


def _plane(values: Tensor) -> np.ndarray:
    """Return a map as a picture shows it, (H, W)."""
    return side_by_side(values[None])[0].cpu().numpy()


def save_overlays(images: Sequence[ShownImage], folder: Path) -> None:
    """Write a PNG per image and method: `03-scan.png` is the fourth image's."""
    folder.mkdir()
    for i, image in enumerate(images):
        for shown in image.maps:
            pixels = enlarge(overlay(image.pixels, shown.values))
            Image.fromarray(pixels).save(folder / f"{i:02d}-{shown.method}.png")


def _target(target: str, image: NamedImage, inference: MambaVisionInference) -> str | None:
    """Return the class to explain for an image; None is the predicted one.

    Raises:
        ConfigError: The true class is not known, or the network does not know the class.
    """
    if target == "predicted":
        return None
    is_true = target.lower() == "true"  # which is no text for YAML
    if is_true and image.true is None:
        raise ConfigError(
            f"target=true: the class of {printable(image.name)} is not known (its folder has the name of no "
            "class of the network, or it has several labels); give target=predicted, or the class's name"
        )
    return image.true if is_true else inference.require_class(target)


def _notes(measured: Measured | None, skipped: dict[str, str]) -> list[str]:
    notes = ["The brighter a place, the more it mattered; each map is scaled to its own maximum."]
    if skipped:
        notes.append(
            f"{counted(len(skipped), 'files')} could not be read: {', '.join(map(printable, skipped))}."
        )
    if measured:
        notes.append(measured.note)
    return notes


def _print_measures(measured: Measured) -> None:
    headings, rows = measured.table()
    table = Table(*headings, title="faithfulness")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(measured.note, soft_wrap=True)
