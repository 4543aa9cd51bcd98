"""Volumes or clips in files: a data set of them, and the base of their data modules."""

import logging
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from mambavision_lab.data.base import MAX_AUTO_WORKERS, available_cores
from mambavision_lab.data.folder_listing import FolderListing
from mambavision_lab.data.folders import FileKind
from mambavision_lab.data.labelled_files import LabelledFiles
from mambavision_lab.data.splits import Items, Splits
from mambavision_lab.data.volumes import VolumeDataModule, keep_slices
from mambavision_lab.errors import ConfigError

Read = Callable[[str], Tensor]  # from a path to uint8 (C, D, H, W)

log = logging.getLogger(__name__)


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

    def check(self, read: Read, num_threads: int) -> dict[str, str]:
        """Read every file once; returns why each that cannot be read cannot, by path."""

        def why_not(path: str) -> str | None:
            try:
                read(path)
            except ConfigError as error:
                return str(error)
            return None

        with ThreadPool(num_threads) as pool:
            found = pool.map(why_not, [path for path, _ in self.items])
        return {str(path): why for (path, _), why in zip(self.items, found, strict=True) if why}


class VolumeFilesDataModule(VolumeDataModule):
    """Base of the data modules of files: in one folder per class, named by the training folders; or in a CSV.

    Args:
        labels_file: As in `FolderListing`, which lists the files.
        is_multilabel: As there; the config reads it from the CSV.
        classes: As there.
        check_files: Whether a training reads every file once before it starts, and lists those that cannot
            be read.

    Other settings as in `VolumeDataModule`.
    """

    kind: ClassVar[FileKind]

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
        assert self.root is not None
        self.is_multilabel, self.check_files = is_multilabel, check_files
        self.listing = FolderListing(
            self.root,
            self.kind,
            folders={"test": "test", "val": "val"},
            labels_file=labels_file,
            is_multilabel=is_multilabel,
            classes=classes,
            val_fraction=self.val_fraction,
            seed=self.seed,
        )
        if is_multilabel and self.sampler == "balanced":
            raise ConfigError(
                f"data.sampler=balanced: {self.kind.noun} of several classes cannot be given once for each; "
                "leave data.sampler=random, or weigh the classes by loss.pos_weight=balanced"
            )

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

    def prepare_data(self) -> None:
        """Check all files at the start of a training, once.

        Raises:
            ConfigError: Some cannot be read; the log lists all.
        """
        # The processes of a run follow one that has called this without a trainer.
        is_start = self.trainer is None or (self.trainer.training and self.trainer.world_size == 1)
        if not is_start or not self.check_files:
            return
        self.check_files = False
        if bad := self.find_bad_images():
            self._list(bad)
            raise ConfigError(
                f"data.root={self.root}: {len(bad)} of the {self.kind.noun} cannot be read, all listed "
                f"above, such as: {next(iter(bad.values()))}"
            )

    def find_bad_images(self) -> dict[str, str]:
        """Read all files of the splits; returns why each that cannot be read cannot, by path."""
        read = self.reader(is_training=False)  # which takes nothing at random
        bad: dict[str, str] = {}
        for split in (self.splits.train, self.splits.val, self.splits.test):
            assert isinstance(split, VolumeFiles)
            bad |= split.check(read, min(available_cores(), MAX_AUTO_WORKERS))
        return bad

    @rank_zero_only
    def _list(self, bad: Mapping[str, str]) -> None:
        log.warning("%d %s cannot be read:", len(bad), self.kind.noun)
        for message in bad.values():
            log.warning(message)
