"""Render the page of explained images: a row an image, a column a method; knows no network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mambavision_lab.report.overlays import enlarge, overlay
from mambavision_lab.report.page import data_url, load_template, svg
from mambavision_lab.report.pictures import is_strip


@dataclass(frozen=True)
class ShownMap:
    """A map of one image.

    Attributes:
        method: Its name.
        values: (H, W), >= 0.
        source: What was computed.
        notes: What to know when reading it.
        layers: Maps of single layers by their names.
    """

    method: str
    values: np.ndarray
    source: str
    notes: Sequence[str] = ()
    layers: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownImage:
    """An image with its maps.

    Attributes:
        name: Of its file, or its place among the test images.
        pixels: (H, W, C) uint8, C = 1 or 3; of volumes and clips, as of their maps, slices side by side.
        classes: The most probable classes with their probabilities.
        target: The class that the maps explain.
        true: Its class, or None where it is not known.
        maps: In the order of the columns; a text where a method refused the network.
    """

    name: str
    pixels: np.ndarray
    classes: Sequence[tuple[str, float]]
    target: str
    true: str | None
    maps: Sequence[ShownMap]


def render_explanations(
    title: str,
    images: Sequence[ShownImage],
    *,
    notes: Sequence[str] = (),
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None,
    figures: Sequence[tuple[str, Figure]] = (),
    with_layers: bool = False,
) -> str:
    """Render the page.

    Args:
        title: Heading.
        images: The rows; all have the same methods.
        notes: Sentences below the heading.
        table: Headings and rows of the measures of faithfulness, or None.
        figures: (title, figure) of the measures and of the network.
        with_layers: Whether to show the maps of single layers.
    """
    rows = [
        {
            "image": image,
            "source": data_url(enlarge(image.pixels)),
            "maps": [(shown, _picture(image, shown.values)) for shown in image.maps],
            "layers": _layers(image) if with_layers else [],
        }
        for image in images
    ]
    return load_template("explain.html.j2").render(
        title=title,
        notes=notes,
        methods=[shown.method for shown in images[0].maps] if images else [],
        rows=rows,
        has_strips=bool(images) and is_strip(images[0].pixels),
        table=table,
        figures=[(heading, svg(figure)) for heading, figure in figures],
    )


def _picture(image: ShownImage, values: np.ndarray) -> str:
    return data_url(enlarge(overlay(image.pixels, values)))


def _layers(image: ShownImage) -> list[tuple[str, list[str | None]]]:
    """List (layer, picture of each method or None) for an image."""
    names: dict[str, Any] = {name: None for shown in image.maps for name in shown.layers}
    return [
        (
            name,
            [
                _picture(image, shown.layers[name]) if name in shown.layers else None
                for shown in image.maps
            ],
        )
        for name in names
    ]
