"""Open a data set of Hugging Face `datasets`: its splits, its classes, its images one by one.

Needs neither torch nor a network where the data are in a folder, so that classes can be counted while a
config is composed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambavision_lab.data.class_names import (
    Classes,
    describe_labels,
    names_of_labels,
    number_labels,
    read_class_names,
)
from mambavision_lab.data.encoded import EncodedImage
from mambavision_lab.data.hf_stream import ParquetSplit, check_same_classes, list_parquet
from mambavision_lab.data.split_folders import split_of
from mambavision_lab.errors import ConfigError, missing_extra, reason


@dataclass(frozen=True, slots=True, eq=False)
class RowImage(EncodedImage):
    """An image in a row of a data set.

    Attributes:
        images: The column of encoded images.
        index: Its row.
        place: Its name in messages.
    """

    images: Any
    index: int
    place: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the files of its column."""
        return tuple(file["filename"] for file in self.images.cache_files)

    def __str__(self) -> str:
        return self.place

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ValueError: The row has no image.
        """
        (image,) = self.images[self.index].values()
        if image is None:
            raise ValueError("the row has no image")
        return image["bytes"] or Path(image["path"]).read_bytes()


def open_splits(root: str, subset: str | None, streaming: bool = False) -> dict[str, Any]:
    """Return train, val and test, those that there are, -> a `datasets.Dataset`, or a `ParquetSplit`.

    Args:
        root: A folder of files that `datasets.load_dataset` reads, or one of `save_to_disk`, or the name of
            a data set on the hub.
        subset: Name of a configuration of the data set; None for its only one.
        streaming: Whether to read its parquet files as they are needed, and download nothing.

    Raises:
        ConfigError: `datasets` is not installed, or there is no such data set.
    """
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("data=hf", "datasets", "hf") from error
    is_saved = any(Path(root, name).is_file() for name in ("dataset_dict.json", "state.json"))
    if is_saved and streaming:
        raise ConfigError(
            f"data.root={root}: is a folder of save_to_disk, whose rows are read as they are needed in any "
            "case; leave data.streaming=false"
        )
    try:
        if streaming:
            found = list_parquet(root, subset)
        else:
            found = (
                datasets.load_from_disk(root) if is_saved else datasets.load_dataset(root, subset)
            )
            if not is_saved and subset is None:  # the first file's classes would number the others'
                check_same_classes(map(str, sorted(Path(root).rglob("*.parquet"))))
    except ConfigError:
        raise
    except Exception as error:  # of all kinds, of files, formats and the network
        raise ConfigError(
            f"data.root={root}: cannot be opened ({reason(error)}); wanted a folder of parquet files, one "
            "of save_to_disk, or the name of a data set on the hub"
        ) from error
    if isinstance(found, datasets.Dataset):
        return {"train": found}
    named = {split: data for name, data in found.items() if (split := split_of(name))}
    if "train" not in named:
        raise ConfigError(
            f"data.root={root}: has the splits {', '.join(found)}; wanted one of the name train"
        )
    return named


def name_hf_classes(splits: dict[str, Any], label_column: str, classes: Classes) -> list[str]:
    """List the classes: those that are given, those of the data set, or the labels of its training rows."""
    given = read_class_names(classes, Path())
    stated = getattr(splits["train"].features[label_column], "names", None)
    for split, data in splits.items():
        names = getattr(data.features.get(label_column), "names", None)
        if names != stated:
            raise ConfigError(
                f"data.label_column={label_column}: the {split} split's classes are {_listed(names)}, and "
                f"the train split's {_listed(stated)}; wanted the same list in the same order"
            )
    return given or stated or names_of_labels(_texts("train", splits["train"][label_column]))


def _listed(names: list[str] | None) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "") if names else "not stated"


def _texts(where: str, labels: Iterable[Any]) -> Iterator[str]:
    for row, label in enumerate(labels):
        if label is None:
            raise ConfigError(f"{where} row {row}: has no label; wanted one, or remove the row")
        yield str(label)


def count_hf_classes(
    root: str,
    subset: str | None,
    label_column: str | None,
    classes: Classes,
    streaming: bool = False,
) -> int:
    """Count the classes; settings as in `open_splits` and `HFDataModule`."""
    splits = open_splits(root, subset, streaming)
    return len(name_hf_classes(splits, find_column(root, splits, "label", label_column), classes))


def find_column(root: str, splits: dict[str, Any], kind: str, name: str | None) -> str:
    """Return the column that is given, or the only one of its kind, image or label.

    Raises:
        ConfigError: There is no such column, or there are several.
    """
    features = splits["train"].features
    type_name = {"image": "Image", "label": "ClassLabel"}[kind]
    found = [key for key, value in features.items() if type(value).__name__ == type_name]
    if name is None and len(found) == 1:
        return found[0]
    if kind == "label" and name in features and not hasattr(features[name], "dtype"):
        raise ConfigError(
            f"data.root={root}: data.label_column={name} holds lists; wanted one label in each row"
        )
    if name is None or name not in features or (kind == "image" and name not in found):
        raise ConfigError(
            f"data.root={root}: data.{kind}_column={name or 'null'}, but the columns are "
            f"{', '.join(features)}, and those of the type {type_name} {', '.join(found) or 'none'}; "
            f"give data.{kind}_column=NAME"
        )
    return name


def list_rows(
    where: str, data: Any, image_column: str, label_column: str, class_names: list[str]
) -> list[tuple[EncodedImage, int]]:
    """List the images of a split with their labels, in order.

    Args:
        where: The split's name in messages.
        data: The split, a `datasets.Dataset` or `ParquetSplit`.
        image_column: Column of the images.
        label_column: Column of the labels.
        class_names: The classes, in the order of their labels.

    Raises:
        ConfigError: A label is none of the classes.
    """
    images = _list_images(where, data, image_column)
    numbers = number_labels(class_names)
    if hasattr(data.features[label_column], "names"):  # of numbers, whatever the classes' names
        numbers = {str(k): k for k in range(len(class_names))}
    items = []
    for row, label in enumerate(_texts(where, data[label_column])):
        if label not in numbers:
            raise ConfigError(
                f"{where} row {row}: label {label!r} is unknown; wanted {describe_labels(class_names)}"
            )
        items.append((images[row], numbers[label]))
    return items


def _list_images(where: str, data: Any, column: str) -> Sequence[EncodedImage]:
    if isinstance(data, ParquetSplit):
        return data.images(column)
    import datasets

    images = data.select_columns(column).cast_column(column, datasets.Image(decode=False))
    return [RowImage(images, row, f"{where} row {row}") for row in range(len(data))]
