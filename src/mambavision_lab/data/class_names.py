"""Which class a label names: by the class's name, or by its number.

Standard library only, so that classes can be counted while a config is composed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mambavision_lab.errors import ConfigError, reason

Classes = str | Sequence[str] | None  # a text file with one name a line, the names, or none given


def read_class_names(classes: Classes, folder: Path) -> list[str] | None:
    """Return the names that `data.classes` gives, in the order of their labels; None where it is null.

    Args:
        classes: As in the config.
        folder: Where the text file lies, unless its path is absolute.

    Raises:
        ConfigError: The file cannot be read, a name occurs twice, or there are fewer than two.
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        text = read_text(folder / classes, "data.classes").strip()
        names = [line.strip() for line in text.splitlines()]
    else:
        names = [str(name) for name in classes]
    given = f"data.classes={classes if isinstance(classes, str) else names[:5]}"
    if len(names) < 2 or "" in names:
        raise ConfigError(
            f"{given}: wanted the names of two classes or more, none of them empty; give a list, or "
            "a text file of one name a line"
        )
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"{given}: has {repeated[0]!r} twice; give each class a name of its own")
    return names


def names_of_labels(labels: Iterable[str]) -> list[str]:
    """Return the classes that labels name, sorted: whole numbers by value, others as text."""
    names = sorted(set(labels))
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def number_labels(class_names: Sequence[str]) -> dict[str, int]:
    """Map each label that a class may have to its number: its name, or the number itself.

    A number stands for itself only where no class has a number for a name.
    """
    numbers = {name: k for k, name in enumerate(class_names)}
    if not any(name.isdecimal() for name in class_names):
        numbers |= {str(k): k for k in range(len(class_names))}
    return numbers


def describe_labels(class_names: Sequence[str]) -> str:
    """Say in a message which labels there are."""
    names = f"{', '.join(class_names[:5])}{' ...' if len(class_names) > 5 else ''}"
    has_numbers = len(number_labels(class_names)) > len(class_names)
    by_number = f", or 0 to {len(class_names) - 1}" if has_numbers else ""
    return f"one of {len(class_names)} classes ({names}{by_number})"


def read_text(path: Path, setting: str) -> str:
    """Read a text file that a setting names.

    Raises:
        ConfigError: It is not there, or no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text in UTF-8; save it as such") from error
    except OSError as error:
        raise ConfigError(
            f"{setting}={path}: cannot be read ({reason(error)}); paths start from data.root"
        ) from error
