"""Draw training images as they are and as augmentation changes them, epoch by epoch, with their labels."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, as_tensor
from torch.utils.data import DataLoader

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.decode import decode
from mambavision_lab.data.image_files import ImageFiles
from mambavision_lab.data.mask_files import MaskFiles
from mambavision_lab.data.volumes import four_slices
from mambavision_lab.report.figures import shorten
from mambavision_lab.report.overlays import mask_overlay

_TILE = 1.9  # inches
_DPI = 110
_NAME_LENGTH = 20  # characters that fit a tile
_MIN_SHARE = 0.005  # of a class that is named


@dataclass(frozen=True)
class AugmentedBatches:
    """Some training images, and what a network receives of them in each epoch.

    Attributes:
        originals: uint8 images, (C, H, W), image files in their own size.
        labels: Their classes; of several labels 0 or 1 for each class.
        epochs: For each epoch the images in [0, 1], (N, C, image_size, image_size), and their labels:
            classes, (N,), the share of each class, (N, num_classes), or masks.
    """

    originals: list[Tensor]
    labels: list[Tensor]
    epochs: list[tuple[Tensor, Tensor]]


def choose_images(labels: Mapping[int, Any], num: int, seed: int) -> list[int]:
    """Choose random images of as many classes as possible; returns their indices, by class.

    Args:
        labels: Index of an image -> its class, or classes, for those to choose from.
        num: How many to choose, at most.
        seed: Fixes the choice.
    """
    counts: Counter[Any] = Counter()
    ordered = []
    for index in np.random.default_rng(seed).permutation([*labels]).tolist():
        label = labels[index]
        ordered.append((counts[label], label, index))
        counts[label] += 1
    ordered.sort()  # the first of each class, then the second of each
    if len(counts) > num:
        spaced = np.linspace(0, len(counts) - 1, num).round().astype(int)
        ordered = [ordered[k] for k in spaced]
    return [index for _, _, index in sorted(ordered[:num], key=lambda image: image[1])]


def augment(data: ImageDataModule, indices: Sequence[int], num_epochs: int) -> AugmentedBatches:
    """Fetch training images in each epoch as a training does, but as a batch of their own.

    Random numbers follow from torch's seed; mixed images are mixed with each other.

    Args:
        data: The data module.
        indices: Of the images among those to train on.
        num_epochs: Epochs, from the first.
    """
    loader = data.train_dataloader()
    num_images = len(data.splits.train)  # type: ignore[arg-type]
    epochs = []
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        first = next(iter(loader.sampler))
        start = first - first % num_images  # a sampler may count on from epoch to epoch
        batch = [start + index for index in indices]
        (fetched,) = DataLoader(loader.dataset, batch_sampler=[batch], collate_fn=loader.collate_fn)
        images, labels = data.prepare_batch(fetched, is_training=True)
        epochs.append((_without_normalization(images, data), labels))
    originals, classes = zip(*(_original(data, index) for index in indices), strict=True)
    return AugmentedBatches([*originals], [*classes], epochs)


def draw(batches: AugmentedBatches, class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw a column for each image: the original, and below it each epoch with the label there."""
    num_rows, num_columns = 1 + len(batches.epochs), len(batches.originals)
    width, height = _TILE * num_columns + 0.4, (_TILE + 0.35) * num_rows + 0.6
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, parse_math=False)
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes, image, label in zip(grid[0], batches.originals, batches.labels, strict=True):
        _show(axes, image / 255, " x ".join(map(str, image.shape[:0:-1])), label, len(class_names))
        name = describe_label(label, class_names)
        axes.set_title(name, fontsize=10, fontweight="bold", parse_math=False)
    for row, (images, labels) in zip(grid[1:], batches.epochs, strict=True):
        for axes, image, label in zip(row, images, labels, strict=True):
            _show(axes, image, describe_label(label, class_names), label, len(class_names))
    for row, axes in enumerate(grid[:, 0]):
        axes.set_ylabel(f"epoch {row}" if row else "original", fontsize=11)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, dpi=_DPI, facecolor="white")


def describe_label(label: Tensor, class_names: Sequence[str]) -> str:
    """Name a class, or each class and its share where there are several, a line each."""
    if not label.ndim:
        return shorten(class_names[int(label)], _NAME_LENGTH)
    if label.ndim > 1:  # a mask
        names = [class_names[k] for k in label.unique().tolist() if k]
        return "\n".join(shorten(name, _NAME_LENGTH) for name in names) or class_names[0]
    if not label.is_floating_point():  # several labels, all of them
        names = [name for name, has in zip(class_names, label.tolist(), strict=True) if has]
        return "\n".join(shorten(name, _NAME_LENGTH) for name in names) or "none"
    shares = sorted(zip(label.tolist(), class_names, strict=True), reverse=True)
    named = [
        (share, shorten(name, _NAME_LENGTH - 5)) for share, name in shares if share >= _MIN_SHARE
    ]
    if len(named) == 1 and named[0][0] > 1 - _MIN_SHARE:
        return named[0][1]
    return "\n+ ".join(f"{name} {share:.2f}" for share, name in named) or "none"


def _original(data: ImageDataModule, index: int) -> tuple[Tensor, Tensor]:
    split = data.splits.train
    if isinstance(split, ImageFiles):
        path, _ = split.items[index]
        image = decode(path, split.in_chans, split.value_range, split.background)
        return image, as_tensor(split.label(index))
    image, label = split.load(index) if isinstance(split, MaskFiles) else split[index]
    return image, as_tensor(label)


def _without_normalization(images: Tensor, data: ImageDataModule) -> Tensor:
    channels = (-1, *[1] * (images.ndim - 2))
    mean, std = (as_tensor(values).reshape(channels) for values in (data.mean, data.std))
    return (images * std + mean).clamp(0, 1)


def _show(axes: Axes, image: Tensor, text: str, label: Tensor, num_classes: int) -> None:
    mask = label if label.ndim > 1 else None
    if image.ndim == 4:
        image = four_slices(image)
        mask = None if mask is None else four_slices(mask[None])[0]
    channels = image[:3] if len(image) >= 3 else image[:1]
    pixels = channels.permute(1, 2, 0).numpy()
    if mask is not None:
        pixels = mask_overlay((255 * pixels).astype(np.uint8), mask.numpy(), num_classes)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=None if mask is not None else 1)
    height, width = image.shape[-2:]
    side = max(height, width)  # a strip is shown in a square as well
    axes.set(xticks=[], yticks=[])
    axes.set_xlim((width - side - 1) / 2, (width + side - 1) / 2)
    axes.set_ylim((height + side - 1) / 2, (height - side - 1) / 2)
    axes.set_xlabel(text, fontsize=9, parse_math=False)
    for spine in axes.spines.values():
        spine.set_color("#c8c8c8")
