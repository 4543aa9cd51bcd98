"""Read which class each image of a folder has from a text file: a CSV of all, or the classes of val/.

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
from mambavision_lab.data.split_folders import USUAL_NAMES, split_of
from mambavision_lab.errors import ConfigError, reason

_COLUMNS = ("file", "label", "split")


@dataclass(frozen=True)
class Row:
    """A row of a CSV: an image, its class and its split."""

    number: int
    file: str
    label: str
    split: str


@dataclass(frozen=True)
class LabelsFile:
    """A CSV of files and labels.

    Attributes:
        path: Its path.
        root: Folder that the paths of its files start from.
        rows: Its rows, in order.
        class_names: The classes, in the order of their labels.
    """

    path: Path
    root: Path
    rows: list[Row]
    class_names: list[str]

    def items(self) -> dict[str, list[tuple[str, int]]]:
        """List the images of each split that has some, as (path, label).

        Raises:
            ConfigError: A file is not there, or is listed twice.
        """
        numbers = number_labels(self.class_names)
        found: dict[str, list[tuple[str, int]]] = {}
        rows: dict[str, Row] = {}
        for row in self.rows:
            path = os.path.normpath(self.root / row.file)
            if not os.path.isfile(path):  # noqa: PTH113, a Path for each of a million takes seconds
                what = "is a folder" if Path(path).is_dir() else "is not there"
                raise ConfigError(
                    f"{self.path}, row {row.number}: {path} {what}; wanted an image, by its path "
                    f"below {self.root}"
                )
            first = rows.setdefault(_real_path(path), row)
            if first is not row:
                raise ConfigError(
                    f"{self.path}, row {row.number}: {row.file} is the same as {first.file} of row "
                    f"{first.number}, so it would count twice; remove one of them"
                )
            found.setdefault(row.split, []).append((path, numbers[row.label]))
        return found


def read_labels_file(
    root: str, labels_file: str, classes: Classes = None, is_training: bool = True
) -> LabelsFile:
    """Read a CSV with the columns file and label, and perhaps split.

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
    rows = list(_read_rows(path))
    if not rows:
        raise ConfigError(f"{path}: has no rows; wanted one for each image")
    labels = {row.label for row in rows if row.split == "train"}
    if is_training and len(labels) < 2:
        what = f"all of one class, {min(labels)!r}" if labels else "absent"
        raise ConfigError(f"{path}: training rows are {what}; wanted rows of two classes or more")
    class_names = read_class_names(classes, Path(root))
    if class_names is None:
        class_names = names_of_labels(labels or {row.label for row in rows})
    numbers = number_labels(class_names)
    for row in rows:
        if row.label not in numbers:
            raise ConfigError(
                f"{path}, row {row.number}: label {row.label!r} is unknown; wanted "
                f"{describe_labels(class_names)}, those of "
                f"{'the training rows' if classes is None else 'data.classes'}"
            )
    return LabelsFile(path, Path(root), rows, class_names)


def read_val_labels(
    folder: Path, path: Path, class_names: list[str], files: list[str]
) -> list[tuple[str, int]]:
    """Find the class of each image of a folder without class folders, such as ImageNet's val.

    Args:
        folder: That of the images, for messages.
        path: A text file: lines of a file's name and its class, separated by commas, tabs or spaces,
            further columns aside; or the names of the classes alone, one a line, in the order of the
            sorted files.
        class_names: The training classes; a line has a name or a number, from 0.
        files: Paths of the images.

    Raises:
        ConfigError: A file or a class is unknown, or a file has no line or two.
    """
    text = read_text(path, "data.val_labels_file").strip()
    lines = [_split_line(line) for line in text.splitlines()]
    numbers = number_labels(class_names)
    if all(len(fields) == 1 for fields in lines):
        return _by_order(folder, path, files, [fields[0] for fields in lines], class_names)
    known = {Path(file).stem: file for file in files} | {Path(file).name: file for file in files}
    labels: dict[str, int] = {}
    for number, fields in enumerate(lines, start=1):
        place = f"{path}, row {number}"
        name, label = fields if len(fields) == 2 else (fields[0], "")
        if label not in numbers:
            label = label.partition(" ")[0]  # in Kaggle's file of ImageNet boxes follow
        file = known.get(Path(name).name)
        if number == 1 and file is None and label not in numbers:
            continue  # the names of the columns
        if file is None:
            raise ConfigError(f"{place}: {name} is not there; wanted an image in {folder}")
        if label not in numbers:
            raise ConfigError(
                f"{place}: label {label!r} is unknown; wanted {describe_labels(class_names)}"
            )
        if file in labels:
            raise ConfigError(f"{place}: {name} has a row already; remove one of them")
        labels[file] = numbers[label]
    if missing := [file for file in files if file not in labels]:
        raise ConfigError(
            f"{path}: has no row for {len(missing)} of {len(files)} images, such as {missing[0]}; "
            "add them or remove the images"
        )
    return [(file, labels[file]) for file in files]


def _by_order(
    folder: Path, path: Path, files: list[str], labels: list[str], class_names: list[str]
) -> list[tuple[str, int]]:
    if len(labels) != len(files):
        raise ConfigError(
            f"{path}: has {len(labels)} rows, but {folder} holds {len(files)} images; wanted a row "
            "for each, in the order of their names"
        )
    numbers = {name: k for k, name in enumerate(class_names)}
    for number, label in enumerate(labels, start=1):
        if (
            label not in numbers
        ):  # nor is a number: ImageNet's development kit has an order of its own
            raise ConfigError(
                f"{path}, row {number}: {label!r} is no training class; wanted names of classes "
                f"({', '.join(class_names[:3])} ...), or rows of a file and its class"
            )
    return [(file, numbers[label]) for file, label in zip(sorted(files), labels, strict=True)]


def _split_line(line: str) -> list[str]:
    """Return the first two columns of a line, divided by commas or tabs, else by spaces."""
    separator = next((mark for mark in (",", "\t") if mark in line), None)
    return [field.strip() for field in line.split(separator)[:2]]


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
    wanted = "wanted file,label or file,label,split, separated by commas"
    if unknown := [name for name in columns if name not in _COLUMNS]:
        raise ConfigError(f"{path}, row 1: column {unknown[0]!r} is unknown; {wanted}")
    if missing := [name for name in _COLUMNS[:2] if name not in columns]:
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
        if not value:
            raise ConfigError(f"{place}: {name} is empty; fill it in or remove the row")
    if re.fullmatch(r"-\d+", values["label"]):
        raise ConfigError(f"{place}: label {values['label']} is below 0; labels count from 0")
    split = split_of(values.get("split", "train"))
    if split is None:
        raise ConfigError(
            f"{place}: split {values['split']!r} is unknown; wanted {', '.join(USUAL_NAMES)}"
        )
    return Row(number, values["file"], values["label"], split)


def _real_path(path: str) -> str:
    """Follow links, of a folder once: resolving each of a million files takes minutes."""
    folder, name = os.path.split(path)
    real = os.path.join(_real_folder(folder), name)
    return os.path.realpath(real) if os.path.islink(real) else real  # noqa: PTH114


@cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
