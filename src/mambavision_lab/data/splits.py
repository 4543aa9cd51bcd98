"""The splits of a data set, and a way to hold one out of the training images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset


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
