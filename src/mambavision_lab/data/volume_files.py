"""Volumes or clips in files: a data set of them, and the base of their data modules."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mambavision_lab.data.checked_files import CheckedFiles, check_all, errors_by_name
from mambavision_lab.data.folder_listing import listing_of
from mambavision_lab.data.labelled_files import LabelledFiles
from mambavision_lab.data.listing import FOLDERS
from mambavision_lab.data.splits import Items, Splits
from mambavision_lab.data.volumes import VolumeDataModule, keep_slices

Read = Callable[[str], Tensor]  # from a path to uint8 (C, D, H, W)


class VolumeFiles(LabelledFiles):
    """Files of volumes or clips, each read when it is asked for.

    Args:
        items: Paths and labels.
        read: From a path to uint8, (C, D, H, W).
        slices: As in `VolumeDataModule`.
        seed: Fixes the order of shuffled slices.
        num_classes: As in `LabelledFiles`.
    """

    def __init__(
        self, items: Items, read: Read, slices: str, seed: int, num_classes: int | None = None
    ) -> None:
        super().__init__(items, num_classes)
        self.read, self.slices, self.seed = read, slices, seed

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        volume = self.read(self.items[index][0])
        kept = keep_slices(volume[None], torch.tensor([index]), self.slices, self.seed)[0]
        return kept, self.label(index)

    def check(self, read: Read) -> dict[str, str]:
        """Read every file once; returns why each that cannot be read cannot, by path."""

        def check(path: str) -> None:
            read(path)

        paths = [path for path, _ in self.items]
        return errors_by_name(paths, check_all(check, paths))


class VolumeFilesDataModule(VolumeDataModule, CheckedFiles):
    """Base of the data modules of files: in one folder per class, named by the training folders; or in a CSV.

    Args:
        labels_file: As in `FolderListing`, which lists the files.
        is_multilabel: As there; the config reads it from the CSV.
        classes: As there.
        check_files: Whether a training reads every file once before it starts, and lists those that cannot
            be read.

    Other settings as in `VolumeDataModule`.
    """

    def __init__(
        self,
        *,
        labels_file: str | None = None,
        is_multilabel: bool = False,
        classes: str | Sequence[str] | None = None,
        check_files: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.is_multilabel, self.check_files = is_multilabel, check_files
        self.listing = listing_of(self, folders=FOLDERS, labels_file=labels_file, classes=classes)

    def reader(self, *, is_training: bool) -> Read:
        """Return what reads a file, as uint8 (C, D, H, W)."""
        raise NotImplementedError

    def load(self) -> Splits:
        """List the files and hold out what has no split of its own."""
        items, class_names = self.listing.items()
        train, val, test = (
            VolumeFiles(
                items[split],
                self.reader(is_training=split == "train"),
                self.slices,
                self.slices_seed(stream),
                len(class_names) if self.is_multilabel else None,
            )
            for stream, split in enumerate(("train", "val", "test"))
        )
        return Splits(train, val, test, class_names)

    def find_bad_images(self) -> dict[str, str]:
        """Read all files of the splits; returns why each that cannot be read cannot, by path."""
        read = self.reader(is_training=False)  # which takes nothing at random
        bad: dict[str, str] = {}
        for split in (self.splits.train, self.splits.val, self.splits.test):
            assert isinstance(split, VolumeFiles)
            bad |= split.check(read)
        return bad
