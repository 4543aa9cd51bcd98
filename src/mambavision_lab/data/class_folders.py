"""List the classes and image files of a folder that has one folder per class.

Standard library only, so that classes can be counted while a config is composed.
"""

import os
from pathlib import Path

from mambavision_lab.errors import ConfigError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


def training_folder(root: str | os.PathLike[str]) -> Path:
    """Return the folder of class folders to train on: `root/train`, or root where that is missing.

    Raises:
        ConfigError: root is no folder, or has a val or test folder but no train folder.
    """
    folder = Path(str(root))
    if not folder.is_dir():
        raise ConfigError(
            f"data.root={folder}: no such folder; wanted one that holds train/<class>/<images>, "
            "or <class>/<images>"
        )
    if (folder / "train").is_dir():
        return folder / "train"
    if parts := [name for name in ("val", "test") if (folder / name).is_dir()]:
        raise ConfigError(f"data.root={folder}: has {parts[0]}/ but no train/; add train/<class>/")
    return folder


def list_classes(folder: Path) -> list[str]:
    """List the names of the class folders in a folder, sorted, without hidden ones.

    Raises:
        ConfigError: There are none.
    """
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
    if not names:
        raise ConfigError(f"{folder}: holds no class folders; wanted {folder}/<class>/<images>")
    return names


def count_classes(root: str | os.PathLike[str]) -> int:
    """Count the classes of the training folder under root."""
    return len(list_classes(training_folder(root)))


def list_images(folder: Path, class_names: list[str]) -> list[tuple[str, int]]:
    """List all image files under a folder of class folders, as (path, class index), sorted.

    Raises:
        ConfigError: A class folder is not in class_names, or one of its classes has no image.
    """
    found = list_classes(folder)
    if unknown := sorted(set(found) - set(class_names)):
        raise ConfigError(
            f"{folder}: classes {unknown} are not among the {len(class_names)} training classes; "
            "add them to the training folder or remove them"
        )
    items = []
    for name in found:
        files = sorted(
            os.path.join(parent, file)
            for parent, _, files in os.walk(folder / name, followlinks=True)
            for file in files
            if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".")
        )
        if not files:
            raise ConfigError(
                f"{folder / name}: holds no images (looked for {' '.join(IMAGE_SUFFIXES)}); "
                "add some or remove the folder"
            )
        items += [(file, class_names.index(name)) for file in files]
    return items
