"""Find the train, val and test folders below the root of a data set, by their usual names in any case.

Standard library only, so that classes can be counted while a config is composed.
"""

import os
import re
from pathlib import Path

from mambavision_lab.data.folders import IMAGES, FileKind, holds_files, subfolders
from mambavision_lab.errors import ConfigError

USUAL_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in USUAL_NAMES.items() for name in names}
# Such as training_set, seg_test, val2017; not trainer or valley.
_SIMILAR = re.compile(rf"(?<![a-z])({'|'.join(_SPLIT_OF)})(set|data|images)?(?![a-z])")


def find_splits(root: str | os.PathLike[str], kind: FileKind = IMAGES) -> dict[str, Path]:
    """Find the folder of each split under root; empty where root holds the class folders itself.

    Raises:
        ConfigError: root is no folder, a split has two folders, or it is unclear what a folder is for.
    """
    folder = Path(str(root))
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "no such folder"
        raise ConfigError(
            f"data.root={folder}: {found}; wanted a folder that holds train/<class>/<{kind.noun}>, "
            f"or <class>/<{kind.noun}>"
        )
    named = _named_splits(folder)
    for split, paths in named.items():
        if len(paths) > 1:
            raise ConfigError(
                f"data.root={folder}: {' and '.join(p.name for p in paths)} are both names of the "
                f"{split} folder; wanted one; rename or move the other"
            )
    if named:
        _refuse_others(folder, named, kind)
    else:
        _refuse_similar(folder)
    return {split: path for split, (path,) in named.items()}


def split_of(name: str) -> str | None:
    """Return the split that a usual name is that of, in any case; None for another name."""
    return _SPLIT_OF.get(name.lower())


def split_in(path: str) -> str | None:
    """Return the split that a path has in its names, such as seg_train/0.tar; None for none.

    Of several the last counts.
    """
    found = _SIMILAR.findall(path.lower())
    return _SPLIT_OF[found[-1][0]] if found else None


def is_divided(folder: str | Path) -> bool:
    """Return whether a folder holds folders of splits."""
    return bool(_named_splits(Path(folder)))


def siblings_of_split(folder: str | os.PathLike[str]) -> list[Path]:
    """List the folders of the other splits, where a folder is itself that of a split; else none."""
    path = Path(str(folder)).resolve()
    if split_of(path.name) is None:
        return []
    return [p for paths in _named_splits(path.parent).values() for p in paths if p != path]


def _named_splits(folder: Path) -> dict[str, list[Path]]:
    """Return split -> the folders with its names."""
    named: dict[str, list[Path]] = {}
    others = False
    for path in subfolders(folder):
        if split := split_of(path.name):
            named.setdefault(split, []).append(path)
        else:
            others = True
    # Among other classes a train is a vehicle.
    if others and [*named] == ["train"] and not any(subfolders(p) for p in named["train"]):
        return {}
    return named


def _refuse_others(folder: Path, named: dict[str, list[Path]], kind: FileKind) -> None:
    known = [path for paths in named.values() for path in paths]
    others = [path for path in subfolders(folder) if path not in known and holds_files(path, kind)]
    if others:
        raise ConfigError(
            f"data.root={folder}: {others[0].name}/ holds {kind.noun} beside {known[0].name}/, and it is "
            f"unclear what for; wanted {_wanted()}; rename it or move it away"
        )


def _refuse_similar(folder: Path) -> None:
    """Refuse training_set/ with test_set/ and the like, which would be two classes."""
    paths = subfolders(folder)
    found = {path: match[1] for path in paths if (match := _SIMILAR.search(path.name.lower()))}
    splits = {_SPLIT_OF[name] for name in found.values()}
    is_all = len(found) == len(paths) and len(splits) > 1
    if unclear := [path.name for path in found if is_all or subfolders(path)]:
        raise ConfigError(
            f"data.root={folder}: {unclear[0]}/ seems to be a split, not a class; "
            f"wanted {_wanted()}; rename it"
        )


def _wanted() -> str:
    return ", ".join(f"{names[0]}/ (or {', '.join(names[1:])})" for names in USUAL_NAMES.values())
