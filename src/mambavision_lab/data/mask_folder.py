"""Your own images or volumes with masks: folders images/ and masks/, in which names are the same."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from mambavision_lab.data.checked_files import CheckedFiles
from mambavision_lab.data.decode import decode
from mambavision_lab.data.fit_volume import FitVolume
from mambavision_lab.data.folders import VOLUMES, FileKind
from mambavision_lab.data.mask_files import CROP, RESIZE, MaskFiles, Read
from mambavision_lab.data.mask_listing import MaskListing
from mambavision_lab.data.splits import Splits
from mambavision_lab.data.volumes import VolumeDataModule
from mambavision_lab.errors import ConfigError


class MaskFolderDataModule(CheckedFiles):
    """Images in root/images, masks of the same names in root/masks; see `MaskListing`.

    Args:
        classes: Names of the classes, that of 0 first; None numbers them.
        fit: "resize" brings each image as a whole to image_size; "crop" takes windows of that size.
        check_files: Whether a training reads every image and mask once before it starts, and lists those
            that cannot be used.

    Other settings as in `ImageDataModule`.

    Raises:
        ConfigError: A setting is impossible.
    """

    has_masks: ClassVar[bool] = True

    def __init__(
        self,
        *,
        classes: Sequence[str] | None = None,
        fit: str = RESIZE,
        check_files: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if (num := self.num_classes) < 2:
            raise ConfigError(f"data.num_classes={num}: wanted 2 or more, with the background")
        if fit not in (RESIZE, CROP):
            raise ConfigError(f"data.fit={fit} is unknown; choose {RESIZE} or {CROP}")
        assert self.root is not None
        self.classes = list(classes or ["background", *(str(k) for k in range(1, num))])
        self.fit, self.check_files = fit, check_files
        self.listing = MaskListing(self.root, self.kind, self.val_fraction, self.seed)

    def reader(self) -> Read:
        """Return what reads an image at its own size."""
        return partial(decode, in_chans=self.in_chans)

    def load(self) -> Splits:
        """List the files of the splits."""
        pairs, read = self.listing.pairs(), self.reader()
        train, val, test = (
            MaskFiles(
                pairs[name],
                read,
                self.num_classes,
                self.sides,
                self.fit,
                is_training=name == "train",
            )
            for name in ("train", "val", "test")
        )
        return Splits(train, val, test, self.classes)

    @property
    def checked(self) -> str:
        """What messages call the files."""
        return f"of the {self.kind.noun} with masks"

    def find_bad_images(self) -> dict[str, str]:
        """Read all pairs of the splits; returns why each that cannot be used cannot, by path."""
        bad: dict[str, str] = {}
        for split in (self.splits.train, self.splits.val, self.splits.test):
            assert isinstance(split, MaskFiles)
            bad |= split.check()
        return bad

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        return super().metadata() | {"fit": self.fit}


class VolumeMaskFolderDataModule(VolumeDataModule, MaskFolderDataModule):
    """Volumes (NIfTI or .npy) in root/images, masks of the same names in root/masks; see `MaskListing`.

    Args:
        classes: As in `MaskFolderDataModule`.
        fit: As there, of num_slices x image_size x image_size.
        check_files: As there.

    Other settings as in `VolumeDataModule`.

    Raises:
        ConfigError: A setting is impossible.
    """

    kind: ClassVar[FileKind] = VOLUMES

    def __init__(
        self,
        *,
        classes: Sequence[str] | None = None,
        fit: str = CROP,
        check_files: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(classes=classes, fit=fit, check_files=check_files, **settings)

    def reader(self) -> Read:
        """Return what reads a volume at its own size."""
        return FitVolume(self.num_slices, self.image_size, self.in_chans).read
