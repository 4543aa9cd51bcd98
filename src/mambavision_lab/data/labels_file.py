"""Read which class, or classes, each image of a folder has from a CSV of all.

Standard library only, so that classes can be counted while a config is composed.
"""

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mambavision_lab.data.class_names import (
    Classes,
    describe_labels,
    names_of_labels,
    number_labels,
    read_class_names,
    read_text,
)
from mambavision_lab.data.folders import IMAGES, FileKind
from mambavision_lab.data.split_folders import USUAL_NAMES, split_of
from mambavision_lab.errors import ConfigError, reason

SEVERAL = "labels"  # the column in place of label, where an image may have several
_BETWEEN_LABELS = re.compile(r"[;|]")

Label = int | tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A row of a CSV: an image, its classes and its split."""

    number: int
    file: str
    labels: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class LabelsFile:
    """A CSV of files and labels.

    Attributes:
        path: Its path.
        root: Folder that the paths of its files start from.
        rows: Its rows, in order.
        class_names: The classes, in the order of their labels.
        is_multilabel: Whether an image has any number of classes, not one.
    """

    path: Path
    root: Path
    rows: list[Row]
    class_names: list[str]
    is_multilabel: bool

    def items(self, kind: FileKind = IMAGES) -> dict[str, list[tuple[str, Label]]]:
        """List the images of each split that has some, as (path, label), or (path, labels in order).

        Raises:
            ConfigError: A file is not there, or is listed twice.
        """
        numbers = number_labels(self.class_names)
        found: dict[str, list[tuple[str, Label]]] = {}
        rows: dict[str, Row] = {}
        for row in self.rows:
            path = os.path.normpath(self.root / row.file)
            is_there = os.path.isfile(path)  # noqa: PTH113, a Path for each of a million takes seconds
            if not is_there and not (Path(path).is_dir() and kind.is_folder(path)):
                what = "is a folder" if Path(path).is_dir() else "is not there"
                raise ConfigError(
                    f"{self.path}, row {row.number}: {path} {what}; wanted one of the "
                    f"{kind.noun}, by its path below {self.root}"
                )
            first = rows.setdefault(_real_path(path), row)
            if first is not row:
                raise ConfigError(
                    f"{self.path}, row {row.number}: {row.file} is the same as {first.file} of row "
                    f"{first.number}, so it would count twice; remove one of them"
                )
            labels = tuple(sorted({numbers[label] for label in row.labels}))
            label = labels if self.is_multilabel else labels[0]
            found.setdefault(row.split, []).append((path, label))
        return found


def read_labels_file(
    root: str, labels_file: str, classes: Classes = None, is_training: bool = True
) -> LabelsFile:
    """Read a CSV with the columns file and label, or labels divided by ; or |, and perhaps split.

    Args:
        root: Folder that its path and the paths in it start from.
        labels_file: Its path.
        classes: As in `read_class_names`; None for the labels of the training rows.
        is_training: Whether there must be training rows, of two classes.

    Raises:
        ConfigError: It is no such file, or a label is none of the classes; the message names the row.
    """
    path = Path(root) / labels_file
    if not Path(root).is_dir():
        raise ConfigError(f"data.root={root}: no such folder; wanted that of the images")
    is_multilabel = SEVERAL in _read_columns(path)
    rows = list(_read_rows(path))
    if not rows:
        raise ConfigError(f"{path}: has no rows; wanted one for each image")
    labels = {label for row in rows if row.split == "train" for label in row.labels}
    if is_training and len(labels) < 2:
        what = f"all of one class, {min(labels)!r}" if labels else "absent"
        raise ConfigError(f"{path}: training rows are {what}; wanted rows of two classes or more")
    class_names = read_class_names(classes, Path(root))
    if class_names is None:
        class_names = names_of_labels(labels or {label for row in rows for label in row.labels})
    numbers = number_labels(class_names)
    for row in rows:
        if unknown := [label for label in row.labels if label not in numbers]:
            raise ConfigError(
                f"{path}, row {row.number}: label {unknown[0]!r} is unknown; wanted "
                f"{describe_labels(class_names)}, those of "
                f"{'the training rows' if classes is None else 'data.classes'}"
            )
    return LabelsFile(path, Path(root), rows, class_names, is_multilabel)


def has_several_labels(root: str, labels_file: str | None) -> bool:
    """Return whether images have several labels: those of a CSV with the column labels."""
    return labels_file is not None and SEVERAL in _read_columns(Path(root) / labels_file)


def _read_columns(path: Path) -> list[str]:
    """Return the names in a CSV's first row, which may be written in any case."""
    first = read_text(path, "data.labels_file").partition("\n")[0]
    return [name.strip().strip('"').lower() for name in first.split(",")]


def _read_rows(path: Path) -> Iterator[Row]:
    text = read_text(path, "data.labels_file")
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="?", strict=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        _check_columns(path, columns)
        reader.fieldnames = columns
        for fields in reader:
            yield _as_row(path, reader.line_num, fields)
    except csv.Error as error:
        raise ConfigError(f"{path}, row {reader.line_num}: {reason(error)}; correct it") from error


def _check_columns(path: Path, columns: list[str]) -> None:
    wanted = "wanted file,label or file,label,split (labels for several), separated by commas"
    known = ("file", SEVERAL if SEVERAL in columns else "label", "split")
    if unknown := [name for name in columns if name not in known]:
        raise ConfigError(f"{path}, row 1: column {unknown[0]!r} is unknown; {wanted}")
    if missing := [name for name in known[:2] if name not in columns]:
        raise ConfigError(f"{path}, row 1: column {missing[0]!r} is missing; {wanted}")
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{path}, row 1: a column occurs twice; {wanted}")


def _as_row(path: Path, number: int, fields: dict[str, str | None]) -> Row:
    place = f"{path}, row {number}"
    if "?" in fields or None in fields.values():
        raise ConfigError(
            f"{place}: has too {'many' if '?' in fields else 'few'} columns; put a name that holds a "
            "comma into double quotes"
        )
    values = {name: (value or "").strip() for name, value in fields.items()}
    for name, value in values.items():
        if not value and name != SEVERAL:  # an image may have none of several
            raise ConfigError(f"{place}: {name} is empty; fill it in or remove the row")
    if SEVERAL in values:
        split_up = (label.strip() for label in _BETWEEN_LABELS.split(values[SEVERAL]))
        labels = tuple(label for label in split_up if label)
    else:
        labels = (values["label"],)
    if negative := [label for label in labels if re.fullmatch(r"-\d+", label)]:
        raise ConfigError(f"{place}: label {negative[0]} is below 0; labels count from 0")
    split = split_of(values.get("split", "train"))
    if split is None:
        raise ConfigError(
            f"{place}: split {values['split']!r} is unknown; wanted {', '.join(USUAL_NAMES)}"
        )
    return Row(number, values["file"], labels, split)


def _real_path(path: str) -> str:
    """Follow links, of a folder once: resolving each of a million files takes minutes."""
    folder, name = os.path.split(path)
    real = os.path.join(_real_folder(folder), name)
    return os.path.realpath(real) if os.path.islink(real) else real  # noqa: PTH114


@cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
