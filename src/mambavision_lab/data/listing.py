"""Which folder below the root of a data set each split is, and what an evaluation takes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mambavision_lab.data.folders import IMAGES, FileKind
from mambavision_lab.data.split_folders import find_splits

T = TypeVar("T")

FOLDERS = {"test": "test", "val": "val"}


class Listing:
    """Base of the listings of data sets in folders.

    Args:
        root: The folder.
        kind: What is listed.
        folders: Split -> the one whose folder holds it, where there is such a folder; train aside.
    """

    def __init__(
        self, root: str, kind: FileKind = IMAGES, *, folders: Mapping[str, str] = FOLDERS
    ) -> None:
        self.root, self.kind, self.folders = root, kind, folders
        self._is_all_for_test = False

    def use_all_for_test(self) -> None:
        """Make all of the test split, else of val, train or root itself, the test split."""
        self._is_all_for_test = True

    def describe_test(self) -> str:
        """Say where the test split comes from."""
        folder = self._choose(self._folders()).get("test")
        return f"all of {folder}" if folder else f"held out of {self.root}"

    def _choose(self, found: Mapping[str, T]) -> dict[str, T]:
        """Choose what each split has of its own, out of what the data have under its usual name."""
        names = {**self.folders, "train": "train"}
        own = {split: found[name] for split, name in names.items() if name in found}
        return {"test": next(iter({**own, **found}.values()))} if self._is_all_for_test else own

    def _folders(self) -> dict[str, Path]:
        return find_splits(self.root, self.kind) or {"train": Path(self.root)}
