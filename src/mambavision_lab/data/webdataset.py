"""Images in tar shards, in a folder or at an address, in webdataset's layout.

Where each image lies is listed once; then any is read by its place. So shuffling, processes and resuming
are those of image files, to the last image. A disk with slow random access reads shards slower than
webdataset does, which reads them from start to end; shards at an address are downloaded first.
"""

from collections.abc import Sequence
from typing import Any

from mambavision_lab.data.class_names import describe_labels, number_labels
from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.find_shards import fetch_shards, find_shards, name_shard_classes
from mambavision_lab.data.shards import list_samples
from mambavision_lab.data.splits import Items, Splits, hold_out_missing
from mambavision_lab.errors import ConfigError


class WebDatasetDataModule(ImageFilesDataModule):
    """Images and their labels in tar shards.

    Args:
        train_shards: Names of the training shards below root, a folder or its address; see `find_shards`.
        val_shards: Those to validate on; where there are none, `val_fraction` of each class is held out.
        test_shards: Those to test on, as val_shards.
        label_key: Suffix of the files with the labels, or json.FIELD for a field of .json files.
        classes: Names of the classes in the order of their labels, or a text file of one a line; None
            for the labels of the training images.
        cache_dir: Folder for downloaded shards, for the lists of what is in them, and for the cache.

    Other settings as in `ImageFilesDataModule`.
    """

    def __init__(
        self,
        *,
        train_shards: str | Sequence[str] | None = None,
        val_shards: str | Sequence[str] | None = None,
        test_shards: str | Sequence[str] | None = None,
        label_key: str = "cls",
        classes: str | Sequence[str] | None = None,
        cache_dir: str,
        **settings: Any,
    ) -> None:
        super().__init__(cache_dir=cache_dir, **settings)
        self.patterns = {"train": train_shards, "val": val_shards, "test": test_shards}
        self.label_key, self.classes = label_key, classes
        self.cache_dir: str = cache_dir

    def prepare_data(self) -> None:
        """Download what is at an address, and check all files at the start of a training, once."""
        self._shards()
        super().prepare_data()

    def load(self) -> Splits:
        """List the images of all shards and hold out what has no shards of its own."""
        assert self.root is not None
        class_names = name_shard_classes(
            self.root, self.patterns["train"], self.label_key, self.classes, self.cache_dir
        )
        numbers = number_labels(class_names)
        items: dict[str, Items] = {}
        for split, shards in self._shards().items():
            items[split] = []
            for shard in shards:
                for member, label in list_samples(shard, self.label_key, self.cache_dir):
                    if label not in numbers:
                        raise ConfigError(
                            f"{member}: label {label!r} is unknown; wanted {describe_labels(class_names)}"
                        )
                    items[split].append((member, numbers[label]))
        filled = hold_out_missing(items, self.val_fraction, self.seed, f"data.root={self.root}")
        return self.make_splits(filled, class_names)

    def _shards(self) -> dict[str, list[str]]:
        """Return split -> the paths of its shards, for the splits that have some, each shard once."""
        assert self.root is not None
        found = {
            split: fetch_shards(find_shards(self.root, split, pattern), self.cache_dir)
            for split, pattern in self.patterns.items()
        }
        seen: set[str] = set()
        for split, shards in found.items():
            for shard in shards:
                if shard in seen:
                    raise ConfigError(
                        f"{shard}: is in data.{split}_shards and another time, so its images would "
                        "count twice; correct the patterns"
                    )
                seen.add(shard)
        return {split: shards for split, shards in found.items() if shards}
