"""CIFAR-10: 60,000 colour images of 32 x 32 pixels in 10 classes.

Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
"""

from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.cifar_files import read_cifar
from mambavision_lab.data.splits import Splits, split_by_class
from mambavision_lab.errors import ConfigError, reason


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10 in memory, downloaded and verified on first use; settings as in `ImageDataModule`."""

    dataset_class: type[CIFAR10] = CIFAR10

    def prepare_data(self) -> None:
        """Download the archive into root, unless it is there, and verify its checksum."""
        self._read()

    def load(self) -> Splits:
        """Read the archive; val is held out of the training images."""
        source, files = self.dataset_class, self._read()
        images, labels = _stack([files[name] for name, _ in source.train_list])
        test_images, test_labels = _stack([files[name] for name, _ in source.test_list])
        kept, held_out = split_by_class(labels, self.val_fraction, self.seed)
        return Splits(
            train=self.in_memory(images[kept], labels[kept]),
            val=self.in_memory(images[held_out], labels[held_out]),
            test=self.in_memory(test_images, test_labels),
            class_names=list(files[source.meta["filename"]][source.meta["key"]]),
        )

    def _read(self) -> dict[str, dict[str, Any]]:
        assert self.root is not None
        try:
            return read_cifar(self.dataset_class, Path(self.root))
        except (OSError, ConfigError) as error:
            source = self.dataset_class
            raise ConfigError(
                f"data.root={self.root}: {source.__name__} cannot be read ({reason(error)}); put "
                f"{source.filename} into that folder"
            ) from error


def _stack(batches: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return images, (N, 3, 32, 32), and labels, (N,)."""
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [
        label
        for batch in batches
        for label in batch["labels" if "labels" in batch else "fine_labels"]
    ]
    return images, np.asarray(labels)
