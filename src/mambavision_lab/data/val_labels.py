"""Read the classes of a val folder without class folders from a text file."""

import csv
from pathlib import Path

from mambavision_lab.counting import counted
from mambavision_lab.data.class_names import describe_labels, number_labels, read_text
from mambavision_lab.errors import ConfigError


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
    whole = {row: line.strip() for row, line in enumerate(text.splitlines(), 1) if line.strip()}
    lines = {row: _split_line(line) for row, line in whole.items()}
    numbers = number_labels(class_names)
    if set(whole.values()) <= {*class_names} or all(len(fields) == 1 for fields in lines.values()):
        return _by_order(folder, path, files, [*whole.values()], class_names)
    known = {Path(file).stem: file for file in files} | {Path(file).name: file for file in files}
    labels: dict[str, int] = {}
    for number, fields in lines.items():
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
            f"{path}: has {counted(len(labels), 'rows')}, but {folder} holds "
            f"{counted(len(files), 'images')}; wanted a row for each, in the order of their names"
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
    """Return the first two columns of a line, divided by commas or tabs, else the first word and the rest."""
    separator = next((mark for mark in (",", "\t") if mark in line), None)
    if separator is None:
        return line.split(maxsplit=1)
    (fields,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    return [field.strip() for field in fields[:2]]
