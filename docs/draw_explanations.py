"""Draw the pictures of explain.md: python docs/draw_explanations.py RUN docs/explain/NAME.png.

Four test images of the run's data, one of each of four classes, and every method on each of them.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from mambavision_lab import MambaVisionInference, compose
from mambavision_lab.explainers.names import METHODS
from mambavision_lab.report.overlays import overlay
from mambavision_lab.tasks.explain_images import open_data, test_images


def main() -> None:
    """Draw one picture."""
    run, output = sys.argv[1:3]
    inference = MambaVisionInference(run, device="cpu")
    data = open_data(compose("explain", [f"from_run={run}"]), inference)
    chosen = {}
    for image in test_images(data, 200):
        if len(chosen) < 4:
            chosen.setdefault(image.true, image)
    figure = Figure(figsize=(1.25 * (1 + len(METHODS)), 5.4), layout="constrained")
    grid = figure.subplots(len(chosen), 1 + len(METHODS))
    for row, image in zip(grid, chosen.values(), strict=True):
        pixels = image.pixels.permute(1, 2, 0).numpy()
        row[0].imshow(pixels.mean(axis=2) if pixels.shape[2] == 1 else pixels, cmap="gray")
        row[0].set_ylabel(image.true, fontsize=8)
        found = inference.explain_pixels(image.pixels, METHODS)
        for axes, method in zip(row[1:], METHODS, strict=True):
            axes.imshow(overlay(pixels, found[method].map.numpy()))
    for axes, name in zip(grid[0], ["image", *METHODS], strict=True):
        axes.set_title(name.replace("_", "\n"), fontsize=8)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    Path(output).parent.mkdir(exist_ok=True)
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    main()
