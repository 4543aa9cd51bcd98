"""Your own images, in one folder per class.

`root/train/<class>/...` with `root/val/<class>/...` and `root/test/<class>/...` beside it, or simply
`root/<class>/...`; the usual other names of the splits are understood, in any case. A val or test
folder that is missing is replaced by `val_fraction` of each training class, sampled by seed.
"""

import logging
from pathlib import Path
from typing import ClassVar

from lightning.pytorch.utilities import rank_zero_only

from mambavision_lab.data.class_folders import ImageLister, list_classes, name_classes
from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.image_files import Items
from mambavision_lab.data.split_folders import find_splits, siblings_of_split
from mambavision_lab.data.splits import Splits, split_by_class
from mambavision_lab.errors import ConfigError

log = logging.getLogger(__name__)


class ImageFolderDataModule(ImageFilesDataModule):
    """Images in one folder per class, named by the training folders.

    Settings as in `ImageFilesDataModule`.
    """

    # Split -> the one whose folder holds it, where there is such a folder.
    folders: ClassVar[dict[str, str]] = {"test": "test", "val": "val"}
    _is_all_for_test = False

    def use_all_for_test(self) -> None:
        """Make all images of the test folder, else val, train or root itself, the test images."""
        self._is_all_for_test = True

    def split_folders(self) -> dict[str, Path]:
        """Return split -> its folder, for the splits that have one."""
        assert self.root is not None
        found = find_splits(self.root) or {"train": Path(self.root)}
        names = {**self.folders, "train": "train"}
        own = {split: found[name] for split, name in names.items() if name in found}
        if self._is_all_for_test:
            return {"test": next(iter({**own, **found}.values()))}
        return own

    def load(self) -> Splits:
        """List the files and hold out what has no folder of its own."""
        assert self.root is not None
        folders = self.split_folders()
        if self._is_all_for_test:
            class_names = list_classes(find_splits(self.root).get("train", folders["test"]))
        else:
            class_names = name_classes(self.root)
        lister = ImageLister(class_names)
        items = {split: lister.images_in(folder) for split, folder in folders.items()}
        lister.refuse_repeated()
        self._warn(lister.notes)
        for split in ("test", "val", "train"):
            if split not in items and self._is_all_for_test:
                items[split] = []
            elif split not in items:
                items["train"], items[split] = self._hold_out(items["train"])
        return self.make_splits(items, class_names)

    @rank_zero_only
    def _warn(self, notes: list[str]) -> None:
        assert self.root is not None
        if not self._is_all_for_test and (unused := siblings_of_split(self.root)):
            log.warning(
                "data.root=%s: %s/ beside it is not used; for both give the folder above",
                self.root,
                unused[0].name,
            )
        for note in notes:
            log.warning(note)

    def _hold_out(self, items: Items) -> tuple[Items, Items]:
        train, held_out = split_by_class(
            [label for _, label in items], self.val_fraction, self.seed
        )
        if not len(held_out):
            raise ConfigError(
                f"data.root={self.root}: no class has two images, so none can be held out; "
                "add images, or val/ and test/ folders"
            )
        return [items[i] for i in train], [items[i] for i in held_out]
