"""The three parts of a data set, and how a part is held out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset


@dataclass
class Splits:
    """The three parts of a data set, which never overlap, and what its labels mean."""

    train: Dataset
    val: Dataset
    test: Dataset
    class_names: list[str]


def split_by_class(labels: Any, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split indices into a kept and a held-out part, taking `fraction` of each class.

    A class of two or more keeps at least one image and gives at least one.
    """
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        is_held_out[members[:count]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
