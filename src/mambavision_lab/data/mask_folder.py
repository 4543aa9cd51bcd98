"""Your own images or volumes with masks: folders images/ and masks/, in which names are the same."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.decode import decode
from mambavision_lab.data.fit_volume import FitVolume
from mambavision_lab.data.folders import IMAGES, VOLUMES, FileKind, scan
from mambavision_lab.data.mask_files import CROP, RESIZE, MaskFiles, Pair, Read, stem_of
from mambavision_lab.data.splits import Splits
from mambavision_lab.data.volumes import VolumeDataModule
from mambavision_lab.errors import ConfigError

_SPLITS = ("train", "val", "test")
_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".npy")


class MaskFolder:
    """The pairs of images and masks below a folder, and how they are divided.

    Either root/images and root/masks, of which val and test are held out by the seed, or such a pair of
    folders in each of root/train, root/val and root/test; without a val or test its share of train.

    Args:
        root: The folder.
        kind: Images or volumes.
        val_fraction: Share that is held out for val, and as much again for test.
        seed: Fixes which.

    Raises:
        ConfigError: A folder or a mask is missing.
    """

    def __init__(self, root: str, kind: FileKind, val_fraction: float, seed: int) -> None:
        self.root, self.kind = Path(root), kind
        self.val_fraction, self.seed = val_fraction, seed

    def pairs(self) -> dict[str, list[Pair]]:
        """Return the pairs of each split."""
        divided = {name: self.root / name for name in _SPLITS if (self.root / name).is_dir()}
        if not divided:
            found = {"train": self._pairs_in(self.root)}
        elif "train" not in divided:
            raise ConfigError(f"data.root={self.root}: holds {', '.join(divided)}, but no train")
        else:
            found = {name: self._pairs_in(folder) for name, folder in divided.items()}
        for name in ("test", "val"):
            if name not in found:
                found[name], found["train"] = self._hold_out(found["train"], name)
        return found

    def _hold_out(self, pairs: list[Pair], name: str) -> tuple[list[Pair], list[Pair]]:
        num = max(1, round(self.val_fraction * len(pairs)))
        if num >= len(pairs):
            raise ConfigError(
                f"data.root={self.root}: {len(pairs)} {self.kind.noun} to train on are too few to hold out "
                f"a {name} split; wanted 3 at least"
            )
        order = np.random.default_rng(self.seed).permutation(len(pairs))
        held, kept = sorted(order[:num]), sorted(order[num:])
        return [pairs[k] for k in held], [pairs[k] for k in kept]

    def _pairs_in(self, folder: Path) -> list[Pair]:
        suffixes = VOLUMES.suffixes if self.kind is VOLUMES else _MASK_SUFFIXES
        masks = {
            stem_of(Path(e.path)): e.path
            for e in scan(_subfolder(folder, "masks"))
            if e.name.lower().endswith(suffixes)
        }
        pairs = []
        for entry in scan(_subfolder(folder, "images")):
            if not self.kind.is_file(entry.name):
                continue
            stem = stem_of(Path(entry.path))
            if stem not in masks:
                raise ConfigError(
                    f"{entry.path}: has no mask; wanted {folder / 'masks' / stem} with one of "
                    f"{' '.join(suffixes)}"
                )
            pairs.append((entry.path, masks[stem]))
        if not pairs:
            raise ConfigError(
                f"{folder / 'images'}: holds no {self.kind.noun}; wanted {' '.join(self.kind.suffixes)}"
            )
        return pairs


def _subfolder(folder: Path, name: str) -> Path:
    found = folder / name
    if not found.is_dir():
        raise ConfigError(
            f"data.root: there is no folder {found}; wanted images/ and masks/ in it, or in its train/, "
            "val/ and test/"
        )
    return found


class MaskFolderDataModule(ImageDataModule):
    """Images in root/images, masks of the same names in root/masks; see `MaskFolder`.

    Args:
        classes: Names of the classes, that of 0 first; None numbers them.
        fit: "resize" brings each image as a whole to image_size; "crop" takes windows of that size.

    Other settings as in `ImageDataModule`.

    Raises:
        ConfigError: A setting is impossible.
    """

    has_masks: ClassVar[bool] = True
    kind: ClassVar[FileKind] = IMAGES

    def __init__(
        self, *, classes: Sequence[str] | None = None, fit: str = RESIZE, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.classes, self.fit = _checked(classes, self.num_classes), _checked_fit(fit)

    def load(self) -> Splits:
        """List the files of the splits."""
        return _splits(self, partial(decode, in_chans=self.in_chans))

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        return super().metadata() | {"fit": self.fit}


class VolumeMaskFolderDataModule(VolumeDataModule):
    """Volumes (NIfTI or .npy) in root/images, masks of the same names in root/masks; see `MaskFolder`.

    Args:
        classes: As in `MaskFolderDataModule`.
        fit: As there, of num_slices x image_size x image_size.

    Other settings as in `VolumeDataModule`.

    Raises:
        ConfigError: A setting is impossible.
    """

    has_masks: ClassVar[bool] = True
    kind: ClassVar[FileKind] = VOLUMES

    def __init__(
        self, *, classes: Sequence[str] | None = None, fit: str = CROP, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.classes, self.fit = _checked(classes, self.num_classes), _checked_fit(fit)
        if self.slices != "all":
            raise ConfigError(
                f"data.slices={self.slices}: masks are of whole volumes; give data.slices=all"
            )

    def load(self) -> Splits:
        """List the files of the splits."""
        return _splits(self, FitVolume(self.num_slices, self.image_size, self.in_chans).read)

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        return super().metadata() | {"fit": self.fit}


def _splits(data: MaskFolderDataModule | VolumeMaskFolderDataModule, read: Read) -> Splits:
    assert data.root is not None
    pairs = MaskFolder(data.root, data.kind, data.val_fraction, data.seed).pairs()
    train, val, test = (
        MaskFiles(
            pairs[name], read, data.num_classes, data.sides, data.fit, is_training=name == "train"
        )
        for name in _SPLITS
    )
    return Splits(train, val, test, data.classes)


def _checked(classes: Sequence[str] | None, num_classes: int) -> list[str]:
    if num_classes < 2:
        raise ConfigError(f"data.num_classes={num_classes}: wanted 2 or more, with the background")
    return list(classes or ["background", *(str(k) for k in range(1, num_classes))])


def _checked_fit(fit: str) -> str:
    if fit not in (RESIZE, CROP):
        raise ConfigError(f"data.fit={fit} is unknown; choose {RESIZE} or {CROP}")
    return fit
