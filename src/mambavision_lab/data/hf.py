"""Image data sets of Hugging Face `datasets`, of a folder or of the hub, which are downloaded as a whole.

Any row is read by its place in files that are mapped into memory, so shuffling, processes and resuming are
those of image files, to the last image. There is no streaming for the same reason: a stream has no places,
only a buffer that is shuffled, so an image's augmentation and the point to resume at could not follow from
(seed, epoch, image); nor does it know its length, which schedules and ranks in step want. Of a data set
larger than the disk `datasets.load_dataset(NAME, split="train[:10%]").save_to_disk(FOLDER)` takes a part.
"""

import logging
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.hf_splits import find_column, list_rows, name_hf_classes, open_splits
from mambavision_lab.data.splits import Splits, hold_out_missing

log = logging.getLogger(__name__)


class HFDataModule(ImageFilesDataModule):
    """Images and labels in two columns of a data set.

    Args:
        root: A folder, or a name on the hub; see `open_splits`.
        subset: Name of a configuration of the data set; None for its only one.
        image_column: Column of the images; None for the only one of its type.
        label_column: Column of the labels; None for the only one of the type ClassLabel.
        classes: Names of the classes in the order of their labels, or a text file of one a line; None
            for those of the data set, or the labels of the training rows.

    Other settings as in `ImageFilesDataModule`.
    """

    def __init__(
        self,
        *,
        root: str,
        subset: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        classes: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, **settings)
        self.source, self.subset, self.classes = root, subset, classes
        self.image_column, self.label_column = image_column, label_column

    def prepare_data(self) -> None:
        """Download the data, and check all images at the start of a training, once."""
        open_splits(self.source, self.subset)
        super().prepare_data()

    def load(self) -> Splits:
        """List the rows of all splits and hold out what has no split of its own."""
        splits = open_splits(self.source, self.subset)
        image = find_column(self.source, splits, "image", self.image_column)
        label = find_column(self.source, splits, "label", self.label_column)
        class_names = name_hf_classes(splits, label, self.classes)
        items = {
            split: list_rows(f"{self.source} {split}", data, image, label, class_names)
            for split, data in splits.items()
            if self._has_labels(split, data[label])
        }
        filled = hold_out_missing(items, self.val_fraction, self.seed, f"data.root={self.source}")
        return self.make_splits(filled, class_names)

    def _has_labels(self, split: str, labels: Any) -> bool:
        """Return whether a split has labels; -1 for all of them is the hub's way to keep them secret."""
        if set(labels) != {-1}:
            return True
        self._warn(f"data.root={self.root}: the {split} split has no labels and is not used")
        return False

    @rank_zero_only
    def _warn(self, message: str) -> None:
        log.warning(message)
