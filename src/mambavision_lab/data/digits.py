"""Handwritten digits: 1,797 grey images of 8 x 8 pixels, part of scikit-learn.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI).
"""

import numpy as np

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.splits import Splits, split_by_class
from mambavision_lab.errors import missing_extra

TEST_FRACTION = 0.2


class DigitsDataModule(ImageDataModule):
    """scikit-learn's digits in memory, a fifth of them as test split; settings as in `ImageDataModule`."""

    def load(self) -> Splits:
        """Read the images and hold out test and val by seed."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise missing_extra("data=digits", "scikit-learn", "digits") from error
        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
        labels = bunch.target
        rest, tested = split_by_class(labels, TEST_FRACTION, self.seed)
        kept, held_out = split_by_class(labels[rest], self.val_fraction, self.seed)
        train, val, test = (
            self.in_memory(images[indices], labels[indices])
            for indices in (rest[kept], rest[held_out], tested)
        )
        return Splits(train, val, test, [str(name) for name in bunch.target_names])
