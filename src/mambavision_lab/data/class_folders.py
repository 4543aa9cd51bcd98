"""List the classes and the images, volumes or clips of a data set that has one folder per class.

Standard library only, so that classes can be counted while a config is composed.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from mambavision_lab.counting import counted
from mambavision_lab.data.class_names import Classes, read_class_names
from mambavision_lab.data.folders import (
    IMAGES,
    KINDS,
    FileKind,
    count_files,
    describe_others,
    scan,
    subfolders,
)
from mambavision_lab.data.labels_file import read_labels_file
from mambavision_lab.data.split_folders import find_splits, is_divided
from mambavision_lab.errors import ConfigError


def class_folder(
    root: str | os.PathLike[str], is_training: bool = True, kind: FileKind = IMAGES
) -> Path:
    """Return the folder whose folders are the classes: that of the training images, or root itself.

    Where nothing is trained a val or test folder alone will do.

    Raises:
        ConfigError: root is no folder of a data set, or has a val or test folder but no train folder.
    """
    splits = find_splits(root, kind)
    if not splits:
        return Path(str(root))
    if "train" in splits:
        return splits["train"]
    if is_training:
        found = next(iter(splits.values())).name
        raise ConfigError(f"data.root={root}: has {found}/ but no train/; add train/<class>/")
    return splits["test"] if "test" in splits else splits["val"]


def list_classes(folder: Path, kind: FileKind = IMAGES) -> list[str]:
    """List the names of the class folders in a folder, sorted, without hidden ones.

    Raises:
        ConfigError: There are none.
    """
    names = [path.name for path in subfolders(folder)]
    if not names:
        num = count_files(folder, kind)
        here = (
            f", but {counted(num, kind.noun)}: is this a class, whose parent is wanted?"
            if num
            else ""
        )
        raise ConfigError(
            f"{folder}: holds no class folders{here}; wanted {folder}/<class>/<{kind.noun}>"
        )
    return names


def name_classes(
    root: str | os.PathLike[str], is_training: bool = True, kind: FileKind = IMAGES
) -> list[str]:
    """List the classes of a data set, in the order of their labels.

    Raises:
        ConfigError: There are none, a single one to be trained on, or one of other files alone.
    """
    folder = class_folder(root, is_training, kind)
    names = list_classes(folder, kind)
    if is_training and len(names) == 1:
        raise ConfigError(
            f"data.root={root}: one class only, {names[0]!r}; wanted two or more; "
            + _advice(folder / names[0])
        )
    for name in names:
        others: list[str] = []
        if _holds_directly(folder / name, kind):
            continue
        if not any(ImageLister(names, kind).class_files(folder / name, others)) and others:
            raise _empty(folder / name, others, kind)
    return names


def count_classes(
    root: str | os.PathLike[str],
    labels_file: str | None = None,
    classes: Classes = None,
    noun: str = IMAGES.noun,
    *,
    is_training: bool = True,
) -> int:
    """Count the classes of images, volumes or clips, by folders or a CSV, or those that are given."""
    if labels_file is not None:
        return len(read_labels_file(str(root), labels_file, classes, is_training).class_names)
    kind = KINDS[noun]
    class_folder(root, is_training=False, kind=kind)  # is there also where the classes are given
    return len(read_class_names(classes, Path(root)) or name_classes(root, is_training, kind))


def _advice(folder: Path) -> str:
    """Say which root is meant where the only class is the folder of the data set."""
    inner = folder
    while len(found := subfolders(inner)) == 1 and not is_divided(inner):
        inner = found[0]
    return f"did you mean data.root={inner}?" if found else "add class folders"


def _holds_directly(folder: Path, kind: FileKind) -> bool:
    """Look for one of a kind in a folder, without listing it all where there is one."""
    try:
        with os.scandir(folder) as entries:
            return any(kind.is_file(entry.name) for entry in entries)
    except OSError:
        return False  # the listing says why


def _empty(folder: Path, others: list[str], kind: FileKind) -> ConfigError:
    here = describe_others(others, kind)
    found, to_do = (here, "convert them, add some") if here else ("nothing", "add some")
    return ConfigError(f"{folder}: holds no {kind.noun}, but {found}; {to_do} or remove the folder")


class ImageLister:
    """List the images of folders of class folders, such as those of three splits, each file once.

    Args:
        class_names: The classes, in the order of their labels.
        kind: What is listed, images or others.

    Attributes:
        notes: What was passed over or looks odd, one sentence each, to warn of.
    """

    def __init__(self, class_names: list[str], kind: FileKind = IMAGES) -> None:
        self.class_names, self.kind = class_names, kind
        self.notes: list[str] = []
        self._folders: dict[Path, Path] = {}  # real path -> the path that led there
        self._links: dict[Path, Path] = {}  # real path of a file -> the link to it

    def images_in(self, folder: Path) -> list[tuple[str, int]]:
        """List the images under a folder of class folders, as (path, label), by class, sorted.

        Raises:
            ConfigError: A class is unknown or has no image, a folder cannot be read or is that of a
                data set of its own, or a link leads to images that are there already.
        """
        found = list_classes(folder, self.kind)
        if unknown := sorted(set(found) - set(self.class_names)):
            raise ConfigError(
                f"{folder}: classes {unknown} are not among the {len(self.class_names)} training "
                "classes; add them to the training folder or remove them"
            )
        others: list[str] = []
        items = []
        for name in found:
            num_others = len(others)
            files = sorted(self.class_files(folder / name, others))
            if not files:
                raise _empty(folder / name, others[num_others:], self.kind)
            label = self.class_names.index(name)
            items += [(file, label) for file in files]
        self._note(folder, found, items, others)
        return items

    def files_below(self, folder: Path) -> list[str]:
        """List the images in a folder and below it, sorted, whatever their class.

        Raises:
            ConfigError: There are none, or as in `images_in`.
        """
        files = sorted(self._files(folder, []))
        if not files:
            raise ConfigError(f"{folder}: holds no {self.kind.noun}; add some or remove the folder")
        return files

    def class_files(self, folder: Path, others: list[str]) -> Iterator[str]:
        """Yield the images in a class folder and below it, and add the names of other files to others.

        Raises:
            ConfigError: As in `images_in`.
        """
        return self._files(folder, others, is_class=True)

    def refuse_repeated(self) -> None:
        """Refuse links to files that are listed themselves; call it when all folders are listed.

        Raises:
            ConfigError: There is one.
        """
        for real, link in self._links.items():
            if real.parent in self._folders and self.kind.is_file(real.name):
                raise _same(link, real)

    def _files(self, folder: Path, others: list[str], is_class: bool = False) -> Iterator[str]:
        """Yield the images in a folder and below it, and add the names of other files to others."""
        real = folder.resolve()
        if folder.parent.resolve().is_relative_to(real):
            raise ConfigError(
                f"{folder}: is a link back up to {real}, whose images would count again; remove it"
            )
        if real in self._folders:
            raise _same(folder, self._folders[real])
        self._folders[real] = folder
        entries = scan(folder)
        inner = [entry.name for entry in entries if entry.is_dir()]
        if is_class and inner and is_divided(folder):
            raise ConfigError(
                f"{folder}: holds {inner[0]}/ and so seems to be a data set, not a class; "
                f"give data.root={folder}, or put its images into one folder"
            )
        if loose := [entry.name for entry in entries if self.kind.is_part(entry.name)]:
            raise ConfigError(
                f"{folder}: {loose[0]} lies among {self.kind.noun}; wanted a folder for each with its files"
            )
        for entry in entries:
            if entry.is_dir() and self.kind.is_folder(entry.path):
                yield entry.path
            elif entry.is_dir():
                yield from self._files(Path(entry.path), others)
            elif self.kind.is_file(entry.name) and entry.is_file():
                if entry.is_symlink():
                    link = Path(entry.path)
                    target = link.resolve()
                    if target in self._links:
                        raise _same(link, self._links[target])
                    self._links[target] = link
                yield entry.path
            else:
                others.append(entry.name)

    def _note(
        self,
        folder: Path,
        found: list[str],
        items: list[tuple[str, int]],
        others: list[str],
    ) -> None:
        if text := describe_others(others, self.kind):
            self.notes.append(f"{folder}: not read as {self.kind.noun}: {text}")
        if num := count_files(folder, self.kind):
            self.notes.append(
                f"{folder}: {counted(num, self.kind.noun)} in no class folder, not used"
            )
        if missing := [name for name in self.class_names if name not in found]:
            self.notes.append(
                f"{folder}: has no {self.kind.noun} of {len(missing)} of {len(self.class_names)} classes: "
                f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
            )
        if not any(Path(path).parent.parent == folder for path, _ in items):
            self.notes.append(
                f"{folder}: the {self.kind.noun} lie in folders below {', '.join(found[:5])}, which are "
                f"taken for the classes; if those folders are, give data.root={folder / found[0]}"
            )


def _same(path: Path, other: Path) -> ConfigError:
    return ConfigError(
        f"{path}: is the same as {other}, so its images would count twice; remove one of them"
    )
