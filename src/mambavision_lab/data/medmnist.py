"""MedMNIST: medical images of 28, 64, 128 or 224 pixels a side, twelve sets, of which eleven are supported.

A set is one file, NAME.npz or NAME_SIZE.npz, downloaded into `root` and verified on first use.

Source: Yang et al. 2023, MedMNIST v2, Scientific Data 10:41.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.download import download
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.medmnist_sets import find_set
from mambavision_lab.data.splits import Splits
from mambavision_lab.errors import ConfigError, reason

URL = "https://zenodo.org/records/10519652/files/{file}?download=1"


class MedMNISTDataModule(ImageDataModule):
    """A set of MedMNIST in memory, with its own splits.

    Args:
        subset: Name of the set, such as "pathmnist".
        source_size: Pixels per side of the images that are read: 28, 64, 128 or 224.

    Other settings as in `ImageDataModule`. PathMNIST takes 250 MB at 28 pixels and 16 GB at 224.
    """

    def __init__(self, *, subset: str, source_size: int = 28, **settings: Any) -> None:
        super().__init__(**settings)
        self.info = find_set(subset)
        if source_size not in self.info.md5:
            sizes = ", ".join(str(size) for size in self.info.md5)
            raise ConfigError(f"data.source_size={source_size} is unknown; choose one of {sizes}")
        self.subset, self.source_size = subset, source_size

    @property
    def path(self) -> Path:
        """The file of the set."""
        assert self.root is not None
        suffix = "" if self.source_size == 28 else f"_{self.source_size}"
        return Path(self.root) / f"{self.subset}{suffix}.npz"

    def prepare_data(self) -> None:
        """Download the file into root, unless it is there, and verify its checksum."""
        download(URL.format(file=self.path.name), self.path, self.info.md5[self.source_size])

    def load(self) -> Splits:
        """Read the file.

        Raises:
            ConfigError: It is damaged, or not that of the set.
        """
        self.prepare_data()
        try:
            with np.load(self.path) as arrays:
                train, val, test = (self._read(arrays, split) for split in ("train", "val", "test"))
        except ConfigError:
            raise
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ConfigError(
                f"{self.path}: cannot be read ({reason(error)}); remove it, and it is fetched again"
            ) from error
        return Splits(train, val, test, list(self.info.class_names))

    def _read(self, arrays: Any, split: str) -> InMemoryImages:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].squeeze(-1)
        colours = (3,) if self.info.in_chans == 3 else ()
        shape = (len(labels), self.source_size, self.source_size, *colours)
        if images.shape != shape or images.dtype != np.uint8 or labels.ndim != 1:
            raise ConfigError(
                f"{self.path}: {split}_images are {images.shape} {images.dtype}, labels "
                f"{labels.shape}; wanted uint8 {shape} as in {self.subset}; remove the file"
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= self.info.num_classes))
        if len(wrong):
            raise ConfigError(
                f"{self.path}: {split}_labels[{wrong[0]}] is {labels[wrong[0]]}; {self.subset} has the "
                f"classes 0 to {self.info.num_classes - 1}; remove the file"
            )
        channels_first = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
        return self.in_memory(np.ascontiguousarray(channels_first), labels)
