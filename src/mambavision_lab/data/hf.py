"""Image data sets of Hugging Face `datasets`, of a folder or of the hub: downloaded as a whole, or streamed.

Any row is read by its place in files that are mapped into memory, so shuffling, processes and resuming are
those of image files, to the last image. Streaming keeps that: it is not the stream of `datasets`, which has
no places and no length but a buffer that is shuffled. The rows of parquet files have places, and are read a
row group at a time (`row_groups.py`), in an order that returns to a row group while it is kept
(`block_shuffle.py`). Only that order is another one than without streaming.
"""

import logging
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import Dataset

from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.hf_splits import find_column, list_rows, name_hf_classes, open_splits
from mambavision_lab.data.hf_stream import number_blocks
from mambavision_lab.data.image_files import ImageFiles, measure_value_range
from mambavision_lab.data.row_groups import NUM_STREAMS, WINDOW_ROWS
from mambavision_lab.data.splits import Splits, hold_out_missing
from mambavision_lab.data.workers import auto_workers
from mambavision_lab.errors import ConfigError

log = logging.getLogger(__name__)

_MAX_MEASURED = 1000  # images whose range of values is measured where they are streamed


class HFDataModule(ImageFilesDataModule):
    """Images and labels in two columns of a data set.

    Args:
        root: A folder, or a name on the hub; see `open_splits`.
        subset: Name of a configuration of the data set; None for its only one.
        image_column: Column of the images; None for the only one of its type.
        label_column: Column of the labels; None for the only one of the type ClassLabel.
        classes: Names of the classes in the order of their labels, or a text file of one a line; None
            for those of the data set, or the labels of the training rows.
        streaming: Whether to read the rows of parquet files as they are needed, and download nothing before.

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
        streaming: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, **settings)
        self.source, self.subset, self.classes = root, subset, classes
        self.streaming = streaming
        if streaming:
            self._check_streaming()
        self.image_column, self.label_column = image_column, label_column

    def prepare_data(self) -> None:
        """Download the data, unless they are streamed, and check all images at the start, once."""
        if not self.streaming:
            open_splits(self.source, self.subset)
        super().prepare_data()

    def load(self) -> Splits:
        """List the rows of all splits and hold out what has no split of its own."""
        splits = open_splits(self.source, self.subset, self.streaming)
        image = find_column(self.source, splits, "image", self.image_column)
        label = find_column(self.source, splits, "label", self.label_column)
        class_names = name_hf_classes(splits, label, self.classes)
        items = {
            split: list_rows(f"{self.source} {split}", data, image, label, class_names)
            for split, data in splits.items()
            if self._has_labels(split, data[label])
        }
        filled = hold_out_missing(items, self.val_fraction, self.seed, f"data.root={self.source}")
        if not self.streaming:
            return self.make_splits(filled, class_names)
        if self.is_range_measured:  # of the first row group: all would be to fetch them
            blocks = number_blocks([image for image, _ in filled["train"][:_MAX_MEASURED]])
            first = [
                item for item, block in zip(filled["train"], blocks, strict=False) if not block
            ]
            self.value_range = measure_value_range(first, auto_workers())
            self.is_range_measured = False
        made = self.make_splits(filled, class_names)
        assert isinstance(made.train, ImageFiles)
        made.train.blocks = number_blocks([image for image, _ in made.train.items])
        if _is_sorted(made.train.labels):
            self._warn(
                f"data.root={self.root}: the rows are sorted by class, and data.streaming=true mixes only "
                f"about {WINDOW_ROWS} of them in a batch; shuffle them before, or leave data.streaming=false"
            )
        return made

    def _has_labels(self, split: str, labels: Any) -> bool:
        """Return whether a split has labels; -1 for all of them is the hub's way to keep them secret."""
        if set(labels) != {-1}:
            return True
        self._warn(f"data.root={self.root}: the {split} split has no labels and is not used")
        return False

    def _check_streaming(self) -> None:
        """Refuse what reads all images beforehand, or in an order of its own.

        Raises:
            ConfigError: A setting does.
        """
        refused = {
            "data.check_files=true reads all images beforehand": self.check_files,
            f"data.cache={self.cache} reads all images beforehand": self.cache is not None,
            f"data.sampler={self.sampler} takes images from anywhere": self.sampler != "random",
        }
        if found := [setting for setting, is_given in refused.items() if is_given]:
            raise ConfigError(
                f"data.streaming=true: {found[0]}; leave that, or data.streaming=false"
            )
        if self.num_workers and NUM_STREAMS % self.num_workers:
            self._warn(
                f"data.num_workers={self.num_workers}: does not divide {NUM_STREAMS}, so that with "
                "data.streaming=true each worker reads most row groups; 1, 2, 4 or 8 share them"
            )

    def _choose_workers(self, data: Dataset, has_work: bool = False) -> int:
        """Choose a number of workers that share the streams of the training order."""
        chosen = super()._choose_workers(data, has_work)
        if not self.streaming or self.num_workers is not None:
            return chosen
        return max(num for num in range(1, chosen + 1) if NUM_STREAMS % num == 0)

    @rank_zero_only
    def _warn(self, message: str) -> None:
        log.warning(message)


def _is_sorted(labels: Tensor) -> bool:
    """Return whether the class changes from row to row a tenth as often as in random order, or less."""
    shares = labels.bincount() / len(labels)
    expected = len(labels) * (1 - shares.square().sum())
    return bool((labels[1:] != labels[:-1]).sum() < expected / 10)
