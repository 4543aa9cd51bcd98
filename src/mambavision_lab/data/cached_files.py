"""Give image files a cache: what is kept of an image, and where."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data import cache_memory
from mambavision_lab.data.cache import (
    Form,
    ImageCache,
    cache_path,
    check_space,
    fill,
    is_complete,
    lay_out,
    measure,
)
from mambavision_lab.data.image_files import (
    CROP_FRACTION,
    MAX_ASPECT,
    ImageFiles,
    cut_ends,
    evaluation_transform,
)
from mambavision_lab.errors import ConfigError

log = logging.getLogger(__name__)

KINDS = ("memory", "disk")


@dataclass(frozen=True)
class ForCrops:
    """Keep all that random crops need: the image, its shorter side at most 256/224 of the crops' side.

    A crop of half of the area of a photograph then has about as many pixels as the network gets; smaller
    crops are enlarged. Strips longer than 4 : 1 lose their ends.
    """

    image_size: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of what is kept."""
        short = min(height, width)
        long = min(max(height, width), MAX_ASPECT * short)
        if short > self.shorter_side:
            short, long = self.shorter_side, int(self.shorter_side * long / short)
        return (short, long) if height <= width else (long, short)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Resize what is larger."""
        pixels = cut_ends(pixels)
        return TF.resize(pixels, list(self.size(*pixels.shape[1:])), antialias=True)

    @property
    def shorter_side(self) -> int:
        """Pixels."""
        return round(self.image_size / CROP_FRACTION)


@dataclass(frozen=True)
class Finished:
    """Keep what evaluation gives the network, to the pixel."""

    image_size: int
    crop_fraction: float

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return that of the network's images."""
        return self.image_size, self.image_size

    def __call__(self, pixels: Tensor) -> Tensor:
        """Resize and take the centre."""
        return evaluation_transform(self.image_size, self.crop_fraction)(pixels)


def open_cache(
    files: ImageFiles,
    form: Form,
    kind: str,
    cache_dir: Path,
    num_threads: int,
    check: Callable[[], object],
) -> ImageCache:
    """Open the cache of image files, made now where there is none of these files and settings.

    Args:
        files: The files.
        form: What is kept of each image.
        kind: One of `KINDS`.
        cache_dir: Folder of the caches on disk.
        num_threads: Images that are decoded at once.
        check: Called before a cache is made, to list files that cannot be read.

    Raises:
        ConfigError: There is no space, or a file cannot be read.
    """
    items = [item for item, _ in files.items]
    folder = cache_dir / "images"
    if kind == "memory":
        folder = cache_memory.memory_folder()
    settings = [form, files.in_chans, files.value_range, files.background]
    path = cache_path(folder, items, settings)
    if not is_complete(path, len(items), files.in_chans):
        check()
        rows, needed = lay_out(measure(items, form, files.decode, num_threads), files.in_chans)
        where = f"data.cache={kind}"
        if kind == "memory":
            cache_memory.remove_abandoned()
            check_space(needed, cache_memory.free_memory(), where, "give data.cache=disk")
        else:
            free = _free_disk(folder)
            where += f" in {folder}"
            check_space(needed, free, where, "choose another disk with data.cache_dir=FOLDER")
        log.info("%s: caching %d images, %.1f GB", where, len(items), needed / 1e9)
        fill(path, items, rows, form, files.decode, num_threads)
    if kind == "memory":
        cache_memory.hold(path)
    return ImageCache(path, len(items), files.in_chans)


def check_cache(kind: str | None, cache_dir: str | None) -> None:
    """Check the settings of a cache.

    Raises:
        ConfigError: One is unknown or missing.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"data.cache={kind} is unknown; choose null, memory or disk")
    if kind == "disk" and cache_dir is None:
        raise ConfigError("data.cache=disk needs a folder; give data.cache_dir=FOLDER")


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
