"""Measure the methods of explain.py on test images of the run, and show the measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.progress import Progress

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.synthetic import SyntheticDataModule
from mambavision_lab.explainers.faithfulness import Faithfulness, measure, pointing
from mambavision_lab.explainers.measure import NUM_STEPS
from mambavision_lab.explainers.names import BASELINES
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.report.figures import COLORS, DASHES, INK, new_figure
from mambavision_lab.tasks.console import console
from mambavision_lab.tasks.explain_images import test_images

_HEADINGS = {
    "deletion": "deletion (lower is better)",
    "insertion": "insertion (higher is better)",
    "pointing": "pointing",
    "far": "pointing, small and far",
    "on_object": "share on object",
    "correlation": "like scrambled weights",
    "seconds": "seconds an image",
}


@dataclass(frozen=True)
class Measured:
    """The measures of all methods.

    Attributes:
        rows: A method each, the baselines last.
        far: Pointing where objects are small and far from the centre, by method; empty without masks.
        note: What was measured on.
    """

    rows: list[Faithfulness]
    far: dict[str, float]
    note: str

    def as_json(self) -> dict[str, Any]:
        """Return the means by method and measure."""
        return {row.method: self._values(row) for row in self.rows} | {"note": self.note}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows."""
        known = [key for key in _HEADINGS if key in self._values(self.rows[0])]
        rows = [
            [row.method, *(f"{self._values(row)[key]:.3f}" for key in known)] for row in self.rows
        ]
        return ["method", *(_HEADINGS[key] for key in known)], rows

    def figures(self) -> list[tuple[str, Figure]]:
        """Draw the mean curves of deletion and insertion."""
        return [
            (f"{name.capitalize()}: probability of the class", self._curves(name))
            for name in ("deletion", "insertion")
        ]

    def _values(self, row: Faithfulness) -> dict[str, float]:
        far = {"far": self.far[row.method]} if self.far else {}
        return row.values() | far

    def _curves(self, name: str) -> Figure:
        figure, axes = new_figure()
        shares = np.linspace(0, 100, NUM_STEPS + 1)
        for i, row in enumerate(self.rows):
            color, dashes = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
            if row.method in BASELINES:
                color, dashes = INK, DASHES[BASELINES.index(row.method) + 1]
            means = getattr(row.mean_curves(), name).numpy()
            axes.plot(shares, means, label=row.method, color=color, linestyle=dashes)
        axes.set(xlabel=f"pixels {'removed' if name == 'deletion' else 'added'} (%)", ylabel="(1)")
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
        axes.set_facecolor("none")
        axes.tick_params(colors=INK)
        return figure


def measure_methods(
    inference: MambaVisionInference, data: ImageDataModule, methods: Sequence[str], count: int
) -> Measured:
    """Measure methods and baselines; pointing only on synthetic images, whose objects' masks are known."""
    far, masks = {}, None
    with Progress(console=console) as progress:
        if isinstance(data, SyntheticDataModule):
            pixels, object_masks = data.masked_images(count)
            images, masks = inference.normalize(pixels).split(1), [*object_masks]
            far_pixels, far_masks = data.masked_images(count, is_far=True)
            bar = progress.add_task("small and far", total=None)
            far = pointing(
                inference.net,
                [image.to(inference.device) for image in inference.normalize(far_pixels).split(1)],
                methods,
                [*far_masks],
                lambda: progress.advance(bar),
            )
            note = f"Measured on {count} generated images that were not trained on."
        else:
            named = [*test_images(data, count)]
            images = tuple(inference.normalize(image.pixels[None]) for image in named)
            note = f"Measured on {len(images)} test images, without masks of their objects."
        bar = progress.add_task("measure", total=None)
        device = inference.device
        found = measure(
            inference.net,
            [image.to(device) for image in images],
            methods,
            masks,
            lambda: progress.advance(bar),
        )
    return Measured(found, far, note)
