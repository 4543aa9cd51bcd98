"""Draw synthetic volumes and clips as strips of slices; writes volumes_data.png.

python docs/draw_volumes.py
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from mambavision_lab.data.create import create_datamodule

NUM_SLICES = 8  # of each strip


def main() -> None:
    """Draw one of each class."""
    rows = []
    for name in ("synthetic_volumes", "synthetic_clips"):
        data = create_datamodule(name, num_train=40, num_val=8, num_test=8)
        split = data.splits.train
        for label, title in enumerate(data.class_names):
            volume = split.images[(split.labels == label).nonzero()[0, 0], 0]  # type: ignore[attr-defined]
            places = torch.linspace(0, len(volume) - 1, NUM_SLICES).long()
            rows.append((name, title, torch.cat([*volume[places]], dim=1).numpy()))
    figure = Figure(figsize=(8, 1.05 * len(rows)), layout="constrained")
    for axes, (name, title, strip) in zip(figure.subplots(len(rows), 1), rows, strict=True):
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="equal")
        axes.set(xticks=[16 * k - 0.5 for k in range(NUM_SLICES)], xticklabels=[], yticks=[])
        axes.set_ylabel(
            f"{name.removeprefix('synthetic_')}\n{title}", rotation=0, ha="right", va="center"
        )
    figure.savefig(Path(__file__).parent / "volumes_data.png", dpi=90)


if __name__ == "__main__":
    main()
