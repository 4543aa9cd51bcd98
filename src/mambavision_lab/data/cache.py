"""Keep decoded images in one file, which all workers, processes and runs map into their memory.

An image is written as it is decoded, resized to what a transform needs of it. The file's name follows from
the settings and the files that went into it, so a change of either makes another. A file in memory
(`cache_memory.py`) differs in its folder alone.

Layout: a row (offset, height, width) of int64 for each image, then the images, uint8, (H, W, C).
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mambavision_lab.data.decode import open_image, read_source
from mambavision_lab.data.progress import track
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import replacing

_VERSION = 1
_ROW = 3 * 8  # bytes
_KEPT_FREE = 0.1  # share of the space that is free now


class Form(Protocol):
    """What is kept of an image; its `repr` tells one from another."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of what is kept of an image of this size, lying or standing."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Make what is kept of pixels, uint8, (C, H, W)."""


Decode = Callable[[Any], Tensor]


class ImageCache:
    """The images of a cache's file, read-only.

    Args:
        path: The file.
        num_images: Number of images in it.
        in_chans: Their channels.
    """

    def __init__(self, path: Path, num_images: int, in_chans: int) -> None:
        self._arguments = path, num_images, in_chans
        self._in_chans = in_chans
        self._rows = np.fromfile(path, np.int64, 3 * num_images).reshape(-1, 3)
        # Not shared, so that nothing is written to the file; what is only read is in memory once anyway.
        size = path.stat().st_size
        self._bytes = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a worker map the file; else it would be sent its content."""
        return ImageCache, self._arguments

    def __getitem__(self, index: int) -> Tensor:
        """Return an image, uint8, (C, H, W)."""
        offset, height, width = self._rows[index].tolist()
        shape = (self._in_chans, height, width)
        return self._bytes.as_strided(shape, (1, width * shape[0], shape[0]), offset)


def cache_path(folder: Path, items: Iterable[Any], settings: list[Any]) -> Path:
    """Name the file for images and settings.

    Args:
        folder: Where it lies.
        items: What the images are read from: paths, or others with `sources`, the files that they are in.
        settings: What else the pixels follow from, each with a `repr` of its own.
    """
    names, sources = [], {}
    for item in items:
        names.append(str(item))
        for source in getattr(item, "sources", None) or [str(item)]:
            if source not in sources:
                status = os.stat(source)  # noqa: PTH116, a Path for each image takes time
                sources[source] = status.st_size, status.st_mtime_ns
    return folder / f"{_digest([_VERSION, *settings])}-{_digest([names, sources])}.images"


def is_complete(path: Path, num_images: int, in_chans: int) -> bool:
    """Return whether a cache's file is there, as long as its rows tell."""
    if not path.is_file() or not num_images or path.stat().st_size < num_images * _ROW:
        return False
    offset, height, width = np.fromfile(path, np.int64, 3, offset=(num_images - 1) * _ROW).tolist()
    return path.stat().st_size == offset + height * width * in_chans


def measure(items: list[Any], form: Form, decode: Decode, num_threads: int) -> np.ndarray:
    """Return height and width of what is kept of each image, (N, 2), by its header; 0 if it is unreadable."""

    def read_size(item: Any) -> tuple[int, int]:
        try:
            with open_image(read_source(item)) as image:
                return form.size(image.height, image.width)
        except (
            Exception
        ):  # of all kinds, from Pillow; perhaps of metadata beside pixels that can be read
            with suppress(ConfigError):
                return form.size(*decode(item).shape[1:])
        return 0, 0

    with ThreadPool(num_threads) as pool:
        return np.array(pool.map(read_size, items, chunksize=16), np.int64).reshape(-1, 2)


def lay_out(sizes: np.ndarray, in_chans: int) -> tuple[np.ndarray, int]:
    """Return the rows of images of these sizes, (N, 3), and the size of their file."""
    ends = len(sizes) * _ROW + sizes.prod(1).cumsum() * in_chans
    offsets = np.concatenate([[len(sizes) * _ROW], ends[:-1]])
    return np.column_stack([offsets, sizes]), int(ends[-1])


def check_space(needed: int, free: int, where: str, advice: str) -> None:
    """Check that a cache fits into what is free, of which a tenth stays free.

    Raises:
        ConfigError: It does not.
    """
    if needed > (1 - _KEPT_FREE) * free:
        raise ConfigError(
            f"{where}: the images need {needed / 1e9:.1f} GB of the {free / 1e9:.1f} GB that are free, of "
            f"which a tenth is left; {advice}, or data.cache=null"
        )


def fill(
    path: Path, items: list[Any], rows: np.ndarray, form: Form, decode: Decode, num_threads: int
) -> None:
    """Write a cache's file, whole or not at all, and remove those of the same settings and other files.

    Raises:
        ConfigError: An image cannot be read, or the folder cannot be written to.
    """

    def make(index: int) -> bytes:
        pixels = form(decode(items[index]))
        height, width = rows[index, 1:].tolist()
        if tuple(pixels.shape[1:]) == (width, height):  # turned by its orientation
            rows[index, 1:] = width, height
        elif tuple(pixels.shape[1:]) != (height, width):
            raise ConfigError(
                f"{items[index]}: its header states another size than it has; remove it"
            )
        return pixels.permute(1, 2, 0).contiguous().numpy().tobytes()

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file, ThreadPool(num_threads) as pool:
            file.write(bytes(rows.nbytes))
            starts = range(0, len(items), 256)
            for start in track(
                starts, "fill the cache", len(starts)
            ):  # in parts: a slow disk piles up
                file.writelines(pool.imap(make, range(start, min(start + 256, len(items)))))
            file.seek(0)
            file.write(rows.tobytes())
    except OSError as error:
        raise ConfigError(
            f"{path.parent}: the cache of images cannot be written ({reason(error)}); free some space, "
            "choose another folder with data.cache_dir=FOLDER, or data.cache=null"
        ) from error
    for other in path.parent.glob(f"{path.name.partition('-')[0]}-*.images"):
        if other != path:
            with suppress(OSError):  # a system that keeps files in use; it is removed the next time
                other.unlink()


def _digest(values: Any) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:16]
