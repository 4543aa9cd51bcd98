"""List what a data set is made of, with its labels and splits: in one folder per class, or in a CSV."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from mambavision_lab.data.checked_files import CheckedFiles
from mambavision_lab.data.class_folders import ImageLister, class_folder, list_classes, name_classes
from mambavision_lab.data.class_names import read_class_names
from mambavision_lab.data.folders import IMAGES, FileKind
from mambavision_lab.data.labels_file import read_labels_file
from mambavision_lab.data.listing import Listing
from mambavision_lab.data.split_folders import siblings_of_split
from mambavision_lab.data.splits import Items, hold_out_missing
from mambavision_lab.data.val_labels import read_val_labels
from mambavision_lab.errors import ConfigError

log = logging.getLogger(__name__)


def listing_of(data: CheckedFiles, **settings: Any) -> "FolderListing":
    """Make the listing of a data module's folder, with its kind, labels, val_fraction and seed.

    Raises:
        ConfigError: Two of the settings exclude each other.
    """
    assert data.root is not None
    listing = FolderListing(
        data.root,
        data.kind,
        is_multilabel=data.is_multilabel,
        val_fraction=data.val_fraction,
        seed=data.seed,
        **settings,
    )
    if data.is_multilabel and data.sampler == "balanced":
        what = "an image" if data.kind is IMAGES else data.kind.noun
        raise ConfigError(
            f"data.sampler=balanced: {what} of several classes cannot be given once for each; leave "
            "data.sampler=random, or weigh the classes by loss.pos_weight=balanced"
        )
    return listing


class FolderListing(Listing):
    """List the images, volumes or clips below a folder; val or test ones that are missing are held out.

    Args:
        root: The folder.
        kind: What is listed.
        folders: Split -> the one whose folder holds it, where there is such a folder; train aside.
        labels_file: A CSV with the columns file, label or labels, and perhaps split, as a path below root;
            None for class folders.
        is_multilabel: Whether the CSV has the column labels.
        val_labels_file: A text file with the class of each image of a val folder without class folders,
            as a path below root; see `read_val_labels`.
        classes: Names of the classes in the order of their labels, or a text file of one a line; None
            for those of the training folders, or of the CSV.
        val_fraction: Share of each training class that is held out.
        seed: Fixes which.

    Raises:
        ConfigError: Two of the settings exclude each other.
    """

    def __init__(
        self,
        root: str,
        kind: FileKind = IMAGES,
        *,
        folders: Mapping[str, str],
        labels_file: str | None = None,
        is_multilabel: bool = False,
        val_labels_file: str | None = None,
        classes: str | Sequence[str] | None = None,
        val_fraction: float,
        seed: int,
    ) -> None:
        if labels_file is not None and val_labels_file is not None:
            raise ConfigError(
                "data.val_labels_file: data.labels_file lists the val images too; give one of the two"
            )
        super().__init__(root, kind, folders=folders)
        self.labels_file, self.val_labels_file = labels_file, val_labels_file
        self.is_multilabel, self.classes = is_multilabel, classes
        self.val_fraction, self.seed = val_fraction, seed

    def describe_test(self) -> str:
        """Say where the test split comes from."""
        if self.labels_file is not None:
            return f"of {self.root}/{self.labels_file}"
        return super().describe_test()

    def items(self) -> tuple[dict[str, Items], list[str]]:
        """List the files of train, val and test with their labels, and the names of the classes.

        Raises:
            ConfigError: They are missing, or there are too few of them.
        """
        items, class_names = self._list_rows() if self.labels_file else self._list_folders()
        if self._is_all_for_test:
            return {"train": [], "val": [], **items}, class_names
        source = f"data.root={self.root}"
        return hold_out_missing(items, self.val_fraction, self.seed, source), class_names

    def _list_rows(self) -> tuple[dict[str, Items], list[str]]:
        assert self.labels_file is not None
        is_training = not self._is_all_for_test
        listed = read_labels_file(self.root, self.labels_file, self.classes, is_training)
        if listed.is_multilabel != self.is_multilabel:
            column = "labels" if listed.is_multilabel else "label"
            raise ConfigError(
                f"data.is_multilabel={str(self.is_multilabel).lower()}: {listed.path} has the column "
                f"{column}; leave data.is_multilabel as it is"
            )
        return self._choose(listed.items(self.kind)), listed.class_names

    def _list_folders(self) -> tuple[dict[str, Items], list[str]]:
        found = self._folders()
        folders = self._choose(found)
        class_names = self._name_classes(found.get("train") or folders["test"])
        if self.val_labels_file and "val" not in found:
            raise ConfigError(
                f"data.val_labels_file={self.val_labels_file}: {self.root} has no val folder whose labels it "
                "would give; add val/, or leave data.val_labels_file out"
            )
        lister = ImageLister(class_names, self.kind)
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
        given = read_class_names(self.classes, Path(self.root))
        if self._is_all_for_test:
            return given or list_classes(folder, self.kind)
        class_folder(self.root, kind=self.kind)  # refuses a root without training data
        return given or name_classes(self.root, kind=self.kind)

    @rank_zero_only
    def _warn(self, notes: list[str]) -> None:
        if not self._is_all_for_test and (unused := siblings_of_split(self.root)):
            log.warning(
                "data.root=%s: %s/ beside it is not used; for both give the folder above",
                self.root,
                unused[0].name,
            )
        for note in notes:
            log.warning(note)
