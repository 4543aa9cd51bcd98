"""List images or volumes with their masks: folders images/ and masks/, in which names are the same."""

from pathlib import Path

import numpy as np

from mambavision_lab.data.folders import VOLUMES, FileKind, scan
from mambavision_lab.data.listing import Listing
from mambavision_lab.data.mask_files import Pair, stem_of
from mambavision_lab.errors import ConfigError

_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".npy")


class MaskListing(Listing):
    """The pairs of images and masks below a folder, and how they are divided.

    Either root/images and root/masks, of which val and test are held out by the seed, or such a pair of
    folders in each of root/train, root/val and root/test, or in folders with other usual names of the
    splits; without a val or test its share of train.

    Args:
        root: The folder.
        kind: Images or volumes.
        val_fraction: Share that is held out for val, and as much again for test.
        seed: Fixes which.
    """

    def __init__(self, root: str, kind: FileKind, val_fraction: float, seed: int) -> None:
        super().__init__(root, kind)
        self.val_fraction, self.seed = val_fraction, seed

    def pairs(self) -> dict[str, list[Pair]]:
        """List the pairs of each split.

        Raises:
            ConfigError: A folder or a mask is missing, two files have one name, or there are too few.
        """
        folders = self._choose(self._folders())
        found = {name: self._pairs_in(folder) for name, folder in folders.items()}
        if self._is_all_for_test:
            return {"train": [], "val": [], **found}
        if "train" not in found:
            names = ", ".join(folder.name for folder in folders.values())
            raise ConfigError(f"data.root={self.root}: holds {names}, but no train")
        for name in ("test", "val"):
            if name not in found:
                found[name], found["train"] = self._hold_out(found["train"], name)
        return found

    def _folders(self) -> dict[str, Path]:
        if not Path(self.root).is_dir():
            raise self._missing(Path(self.root))
        return super()._folders()

    def _hold_out(self, pairs: list[Pair], name: str) -> tuple[list[Pair], list[Pair]]:
        num = max(1, round(self.val_fraction * len(pairs)))
        if num >= len(pairs):
            raise ConfigError(
                f"data.root={self.root}: {len(pairs)} {self.kind.noun} to train on are too few to hold out "
                f"a {name} split; wanted 3 at least"
            )
        order = np.random.default_rng(self.seed).permutation(len(pairs))
        held, kept = sorted(order[:num]), sorted(order[num:])
        return [pairs[k] for k in held], [pairs[k] for k in kept]

    def _pairs_in(self, folder: Path) -> list[Pair]:
        suffixes = VOLUMES.suffixes if self.kind is VOLUMES else _MASK_SUFFIXES
        masks = self._by_stem(folder / "masks", suffixes)
        images = self._by_stem(folder / "images", self.kind.suffixes)
        if not images:
            raise ConfigError(
                f"{folder / 'images'}: holds no {self.kind.noun}; wanted {' '.join(self.kind.suffixes)}"
            )
        for stem, path in images.items():
            if stem not in masks:
                raise ConfigError(
                    f"{path}: has no mask; wanted {folder / 'masks' / stem} with one of "
                    f"{' '.join(suffixes)}"
                )
        return [(path, masks[stem]) for stem, path in images.items()]

    def _by_stem(self, folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
        """Return the files of a folder by their names without suffix, sorted by name."""
        if not folder.is_dir():
            raise self._missing(folder)
        found: dict[str, str] = {}
        for path in (entry.path for entry in scan(folder) if entry.name.lower().endswith(suffixes)):
            first = found.setdefault(stem_of(Path(path)), path)
            if first != path:
                raise ConfigError(
                    f"{path}: has the name of {Path(first).name}, and it is unclear which mask belongs to "
                    "which image; rename one of them, and what belongs to it"
                )
        return found

    def _missing(self, folder: Path) -> ConfigError:
        return ConfigError(
            f"data.root={self.root}: there is no folder {folder}; wanted images/ and masks/ in the root, or "
            "in its train/, val/ and test/"
        )
