"""Your own images: in one folder per class, or listed in a CSV.

`root/train/<class>/...` with `root/val/<class>/...` and `root/test/<class>/...` beside it, or simply
`root/<class>/...`; the usual other names of the splits are understood, in any case. A val folder without
class folders needs a file of its labels. A CSV has the columns file and label, and perhaps split; with the
column labels in place of label an image has any number of classes, divided by ; or |. Val or test images
that are missing are replaced by `val_fraction` of each training class, sampled by seed.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from lightning.pytorch.utilities import rank_zero_only

from mambavision_lab.data.class_folders import ImageLister, class_folder, list_classes, name_classes
from mambavision_lab.data.class_names import read_class_names
from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.labels_file import read_labels_file
from mambavision_lab.data.split_folders import find_splits, siblings_of_split
from mambavision_lab.data.splits import Items, Splits, hold_out_missing
from mambavision_lab.data.val_labels import read_val_labels
from mambavision_lab.errors import ConfigError

T = TypeVar("T")

log = logging.getLogger(__name__)


class ImageFolderDataModule(ImageFilesDataModule):
    """Images in one folder per class, named by the training folders; or in a CSV.

    Args:
        labels_file: A CSV with the columns file, label or labels, and perhaps split, as a path below root;
            it lists all images. None for class folders.
        is_multilabel: Whether the CSV has the column labels; the config reads it from there.
        val_labels_file: A text file with the class of each image of a val folder without class folders,
            as a path below root; see `read_val_labels`.
        classes: Names of the classes in the order of their labels, or a text file of one a line; None
            for those of the training folders, or of the CSV.

    Other settings as in `ImageFilesDataModule`.
    """

    # Split -> the one whose folder holds it, where there is such a folder.
    folders: ClassVar[dict[str, str]] = {"test": "test", "val": "val"}
    _is_all_for_test = False

    def __init__(
        self,
        *,
        labels_file: str | None = None,
        is_multilabel: bool = False,
        val_labels_file: str | None = None,
        classes: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if labels_file is not None and val_labels_file is not None:
            raise ConfigError(
                "data.val_labels_file: data.labels_file lists the val images too; give one of the two"
            )
        self.labels_file, self.val_labels_file = labels_file, val_labels_file
        self.is_multilabel, self.classes = is_multilabel, classes
        if is_multilabel and self.sampler == "balanced":
            raise ConfigError(
                "data.sampler=balanced: an image of several classes cannot be given once for each; leave "
                "data.sampler=random, or weigh the classes by loss.pos_weight=balanced"
            )

    def use_all_for_test(self) -> None:
        """Make all images of the test split, else of val, train or root itself, the test images."""
        self._is_all_for_test = True

    def describe_test(self) -> str:
        """Say where the test images come from."""
        if self.labels_file is not None:
            return f"of {self.root}/{self.labels_file}"
        folder = self._choose(self._folders()).get("test")
        return f"all of {folder}" if folder else f"held out of {self.root}"

    def load(self) -> Splits:
        """List the files and hold out what has no split of its own."""
        items, class_names = self._list_rows() if self.labels_file else self._list_folders()
        if self._is_all_for_test:
            filled: dict[str, Items] = {"train": [], "val": [], **items}
        else:
            source = f"data.root={self.root}"
            filled = hold_out_missing(items, self.val_fraction, self.seed, source)
        return self.make_splits(filled, class_names)

    def _choose(self, found: Mapping[str, T]) -> dict[str, T]:
        """Choose what each split has of its own, out of what the data have under its usual name."""
        names = {**self.folders, "train": "train"}
        own = {split: found[name] for split, name in names.items() if name in found}
        return {"test": next(iter({**own, **found}.values()))} if self._is_all_for_test else own

    def _folders(self) -> dict[str, Path]:
        assert self.root is not None
        return find_splits(self.root) or {"train": Path(self.root)}

    def _list_rows(self) -> tuple[dict[str, Items], list[str]]:
        assert self.root is not None
        assert self.labels_file is not None
        is_training = not self._is_all_for_test
        listed = read_labels_file(self.root, self.labels_file, self.classes, is_training)
        if listed.is_multilabel != self.is_multilabel:
            column = "labels" if listed.is_multilabel else "label"
            raise ConfigError(
                f"data.is_multilabel={str(self.is_multilabel).lower()}: {listed.path} has the column "
                f"{column}; leave data.is_multilabel as it is"
            )
        return self._choose(listed.items()), listed.class_names

    def _list_folders(self) -> tuple[dict[str, Items], list[str]]:
        assert self.root is not None
        found = self._folders()
        folders = self._choose(found)
        class_names = self._name_classes(found.get("train") or folders["test"])
        lister = ImageLister(class_names)
        items = {}
        for split, folder in folders.items():
            if self.val_labels_file and folder == found.get("val"):
                path = Path(self.root) / self.val_labels_file
                files = lister.files_below(folder)
                items[split] = read_val_labels(folder, path, class_names, files)
            else:
                items[split] = lister.images_in(folder)
        lister.refuse_repeated()
        self._warn(lister.notes)
        return items, class_names

    def _name_classes(self, folder: Path) -> list[str]:
        assert self.root is not None
        given = read_class_names(self.classes, Path(self.root))
        if self._is_all_for_test:
            return given or list_classes(folder)
        class_folder(self.root)  # refuses a root without training images
        return given or name_classes(self.root)

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
