"""The splits of a data set, and a way to hold one out of the training images."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mambavision_lab.errors import ConfigError

Items = list[tuple[Any, Any]]  # where an image is read from, and its label, or all of its labels


@dataclass
class Splits:
    """Train, val and test images, which never overlap, and the names of their classes in label order."""

    train: Dataset
    val: Dataset
    test: Dataset
    class_names: list[str]


def split_by_class(labels: Any, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split indices into those to train on and those held out, which are `fraction` of each class.

    A class of two or more images has at least one in either part; a lone image is trained on.

    Args:
        labels: Class of each image, (N,).
        fraction: Share of each class to hold out.
        seed: Fixes the choice.
    """
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        is_held_out[members[:count]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def hold_out_missing(
    items: Mapping[str, Items], fraction: float, seed: int, source: str
) -> dict[str, Items]:
    """Hold test and val images out of each training class, where there are none of their own.

    Args:
        items: Train, and perhaps val and test, -> source and label of each image.
        fraction: As in `split_by_class`, for each of the two.
        seed: As in `split_by_class`.
        source: Setting that names the data, for messages.

    Raises:
        ConfigError: There are no training images, or no class has enough of them.
    """
    filled = dict(items)
    if not filled.get("train"):
        raise ConfigError(f"{source}: there are no training images; give some")
    for split in ("test", "val"):
        if split not in filled:
            labels = _strata([label for _, label in filled["train"]])
            kept, held_out = split_by_class(labels, fraction, seed)
            if not len(held_out):
                raise ConfigError(
                    f"{source}: no class has an image to spare for {split}/; three in a class "
                    "will do, or give val and test images of their own"
                )
            filled[split] = [filled["train"][i] for i in held_out]
            filled["train"] = [filled["train"][i] for i in kept]
    return filled


def _strata(labels: list[Any]) -> list[int]:
    """Return the class by which each image is divided: of several the rarest, -1 for none."""
    if not isinstance(labels[0], tuple):
        return labels
    counts = Counter(label for several in labels for label in several)
    return [min(several, key=lambda label: counts[label], default=-1) for several in labels]
