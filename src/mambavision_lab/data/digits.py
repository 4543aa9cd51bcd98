"""Handwritten digits, 1,797 grey images of 8 x 8 pixels, out of scikit-learn's wheel.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI).
"""

import numpy as np

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.splits import Splits, split_by_class
from mambavision_lab.errors import ConfigError

TEST_FRACTION = 0.2


class DigitsDataModule(ImageDataModule):
    """scikit-learn's digits in memory, a fifth of them for the test; settings as in `ImageDataModule`."""

    def load(self) -> Splits:
        """Read the images and hold out test and val by seed."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ConfigError(
                "data=digits needs scikit-learn; install it with: pip install 'mambavision-lab[digits]'"
            ) from error
        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
        labels = bunch.target
        rest, test = split_by_class(labels, TEST_FRACTION, self.seed)
        kept, held_out = (
            rest[part] for part in split_by_class(labels[rest], self.val_fraction, self.seed)
        )
        train_set, val_set, test_set = (
            self.in_memory(images[part], labels[part]) for part in (kept, held_out, test)
        )
        return Splits(train_set, val_set, test_set, [str(name) for name in bunch.target_names])
