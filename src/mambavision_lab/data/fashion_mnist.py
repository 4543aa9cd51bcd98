"""Fashion-MNIST: 70,000 grey images of clothes, 28 x 28 pixels, in 10 classes.

The four idx files, gzipped or not, are read from `root` or from the folder of Debian's package
`dataset-fashion-mnist`; if neither has them, torchvision downloads them into `root`.

Source: Xiao et al. 2017, arXiv:1708.07747.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.splits import Splits, split_by_class
from mambavision_lab.errors import ConfigError, reason

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = {
    (part, kind): f"{part}-{kind}-idx{axes}-ubyte"
    for part in ("train", "t10k")
    for kind, axes in (("images", 3), ("labels", 1))
}


class FashionMNISTDataModule(ImageDataModule):
    """Fashion-MNIST in memory; settings as in `ImageDataModule`."""

    def prepare_data(self) -> None:
        """Download the files into root, unless they are there or in Debian's folder."""
        assert self.root is not None
        if self._folder() is None:
            try:
                FashionMNIST(self.root, download=True)
            except (OSError, RuntimeError) as error:
                raise ConfigError(
                    f"data.root={self.root}: Fashion-MNIST is neither there nor in {DEBIAN_FOLDER} "
                    f"and could not be downloaded ({reason(error)}); install Debian's package "
                    "dataset-fashion-mnist, or put the four idx files into data.root"
                ) from error

    def load(self) -> Splits:
        """Read the idx files; val is held out of the training images."""
        self.prepare_data()
        folder = self._folder()
        assert folder is not None
        arrays = {key: read_idx(_find(folder, name)) for key, name in FILES.items()}
        for part in ("train", "t10k"):
            counts = [len(arrays[part, kind]) for kind in ("images", "labels")]
            if counts[0] != counts[1]:
                raise ConfigError(
                    f"{folder}: {counts[0]} images but {counts[1]} labels in the {part} files; "
                    "fetch them again"
                )
        images, labels = arrays["train", "images"][:, None], arrays["train", "labels"]
        kept, held_out = split_by_class(labels, self.val_fraction, self.seed)
        return Splits(
            train=self.in_memory(images[kept], labels[kept]),
            val=self.in_memory(images[held_out], labels[held_out]),
            test=self.in_memory(arrays["t10k", "images"][:, None], arrays["t10k", "labels"]),
            class_names=list(FashionMNIST.classes),
        )

    def _folder(self) -> Path | None:
        assert self.root is not None
        downloaded = Path(self.root) / "FashionMNIST" / "raw"
        for folder in (Path(self.root), downloaded, DEBIAN_FOLDER):
            if all(_find(folder, name) for name in FILES.values()):
                return folder
        return None


def read_idx(path: Path | None) -> np.ndarray:
    """Read an idx file of unsigned bytes, gzipped if its name ends in .gz.

    Raises:
        ConfigError: The file is truncated or of another format.

    Source: the format's description on the MNIST page: two zero bytes, type 8 for unsigned bytes,
    the number of axes, each length as a big-endian 32-bit integer, then the values.
    """
    assert path is not None
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        axes = data[3]
        shape = np.frombuffer(data, ">u4", count=axes, offset=4).astype(int)
        if data[:3] != b"\0\0\x08":
            raise ValueError("it does not begin with 00 00 08")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (EOFError, OSError, IndexError, ValueError, zlib.error) as error:
        raise ConfigError(
            f"{path}: not an idx file of bytes ({reason(error)}); fetch it again"
        ) from error


def _find(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
