"""CIFAR-10: 60,000 colour images of 32 x 32 pixels in 10 classes, through torchvision.

Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
"""

import numpy as np
from torchvision.datasets import CIFAR10

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.splits import Splits, split_by_class
from mambavision_lab.errors import ConfigError, reason


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10 in memory, downloaded and verified on first use; settings as in `ImageDataModule`."""

    dataset_class: type[CIFAR10] = CIFAR10

    def prepare_data(self) -> None:
        """Download the archive into root, unless it is there, and verify its checksum."""
        self._open(train=True)

    def load(self) -> Splits:
        """Read the archive; val is held out of the training images."""
        train, test = self._open(train=True), self._open(train=False)
        images, labels = _channels_first(train.data), np.asarray(train.targets)
        kept, held_out = split_by_class(labels, self.val_fraction, self.seed)
        return Splits(
            train=self.in_memory(images[kept], labels[kept]),
            val=self.in_memory(images[held_out], labels[held_out]),
            test=self.in_memory(_channels_first(test.data), test.targets),
            class_names=list(train.classes),
        )

    def _open(self, train: bool) -> CIFAR10:
        assert self.root is not None
        try:
            return self.dataset_class(self.root, train=train, download=True)
        except (OSError, RuntimeError) as error:
            source = self.dataset_class
            raise ConfigError(
                f"data.root={self.root}: {source.__name__} is not there and could not be "
                f"downloaded ({reason(error)}); put {source.filename} into that folder"
            ) from error


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
