"""MedMNIST: medical images of 28, 64, 128 or 224 pixels a side, and volumes of 28 or 64.

Of its eighteen sets one, whose images have several labels, is not supported. A set is one file, NAME.npz or
NAME_SIZE.npz, downloaded into `root` and verified on first use.

Source: Yang et al. 2023, MedMNIST v2, Scientific Data 10:41.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.download import download
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.medmnist_sets import find_set
from mambavision_lab.data.splits import Splits
from mambavision_lab.data.volumes import VolumeDataModule, resize_volumes
from mambavision_lab.errors import ConfigError, reason

URL = "https://zenodo.org/records/10519652/files/{file}?download=1"


class MedMNISTDataModule(ImageDataModule):
    """A set of MedMNIST in memory, with its own splits.

    Args:
        subset: Name of the set, such as "pathmnist".
        source_size: Pixels per side of the images that are read: 28, 64, 128 or 224.

    Other settings as in `ImageDataModule`. PathMNIST takes 250 MB at 28 pixels and 16 GB at 224.
    """

    num_axes: ClassVar[int] = 2

    def __init__(self, *, subset: str, source_size: int = 28, **settings: Any) -> None:
        super().__init__(**settings)
        self.info = find_set(subset, self.num_axes)
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
            loaded: Any = np.load(self.path)
            if isinstance(loaded, np.ndarray):
                raise ValueError("it holds one array, without names")
            with loaded as arrays:
                train, val, test = (
                    self.make_split(*self._read(arrays, split), stream)
                    for stream, split in enumerate(("train", "val", "test"))
                )
        except ConfigError:
            raise
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ConfigError(
                f"{self.path}: cannot be read ({reason(error)}); remove it, and it is fetched again"
            ) from error
        return Splits(train, val, test, list(self.info.class_names))

    def make_split(self, images: np.ndarray, labels: np.ndarray, stream: int) -> InMemoryImages:
        """Make the split of this number of uint8 images (N, H, W) or (N, H, W, 3) and their labels, (N,)."""
        channels_first = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
        return self.in_memory(np.ascontiguousarray(channels_first), labels)

    def _read(self, arrays: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].squeeze(-1)
        colours = (3,) if self.info.in_chans == 3 else ()
        shape = (len(labels), *[self.source_size] * self.num_axes, *colours)
        if images.shape != shape or images.dtype != np.uint8 or labels.ndim != 1:
            raise ConfigError(
                f"{self.path}: {split}_images are {images.shape} {images.dtype}, labels "
                f"{labels.shape}; wanted uint8 {shape} as in {self.subset}; remove the file"
            )
        if labels.dtype.kind not in "ui":
            raise ConfigError(
                f"{self.path}: {split}_labels are {labels.dtype}; wanted whole numbers; remove the file"
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= self.info.num_classes))
        if len(wrong):
            raise ConfigError(
                f"{self.path}: {split}_labels[{wrong[0]}] is {labels[wrong[0]]}; {self.subset} has the "
                f"classes 0 to {self.info.num_classes - 1}; remove the file"
            )
        return images, labels


class MedMNIST3DDataModule(MedMNISTDataModule, VolumeDataModule):
    """A set of volumes of MedMNIST in memory, with its own splits.

    Settings as in `MedMNISTDataModule`, with 28 or 64 pixels per side, and in `VolumeDataModule`.
    """

    num_axes: ClassVar[int] = 3

    def __init__(self, *, num_slices: int, slices: str = "all", **settings: Any) -> None:
        super().__init__(num_slices=num_slices, slices=slices, **settings)
        if self.in_chans != 1:
            raise ConfigError(f"data.in_chans={self.in_chans}: MedMNIST's volumes are grey; give 1")

    def make_split(self, images: np.ndarray, labels: np.ndarray, stream: int) -> InMemoryImages:
        """Make the split of this number of uint8 volumes (N, D, H, W) and their labels, (N,)."""
        sides = (self.num_slices, self.image_size, self.image_size)
        volumes = resize_volumes(torch.from_numpy(images)[:, None], sides)
        return self.volumes_in_memory(volumes, torch.from_numpy(labels).long(), stream)
