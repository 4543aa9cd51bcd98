"""Tell images, subfolders and leftovers in a folder apart; standard library only."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from mambavision_lab.errors import ConfigError, reason

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    *(".png", ".apng", ".webp", ".avif", ".gif", ".tif", ".tiff"),
    *(".bmp", ".dib", ".tga", ".pcx", ".qoi", ".pbm", ".pgm", ".pnm", ".ppm"),
)

# What archives, desktops and file servers leave in a folder.
_LEFTOVERS = {
    *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "lost+found", "__pycache__"),
}
_NUM_LOOKED_AT = 1000  # files among which a folder's images are looked for


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image, which is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def describe_others(names: Iterable[str]) -> str:
    """Count the files among names that are no images, by suffix, most frequent first; "" for none."""
    others = (n for n in names if not is_image(n) and n[0] != "." and n.lower() not in _LEFTOVERS)
    counts = Counter(Path(name).suffix.lower() or "without suffix" for name in others)
    return ", ".join(f"{num} {suffix}" for suffix, num in counts.most_common(8))


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """List what a folder holds, sorted by name, without hidden entries and leftovers.

    Raises:
        ConfigError: The folder cannot be read, or holds a link to nothing.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be read ({reason(error)}); wanted a folder of images"
        ) from error
    entries = [e for e in entries if e.name[0] != "." and e.name.lower() not in _LEFTOVERS]
    for entry in entries:
        if entry.is_symlink() and not Path(entry.path).exists():
            raise ConfigError(
                f"{entry.path}: is a link to nothing; restore its target or remove it"
            )
    return entries


def subfolders(folder: str | Path) -> list[Path]:
    """List the folders in a folder, and links to folders, sorted by name."""
    return [Path(entry.path) for entry in scan(folder) if entry.is_dir()]


def count_images(folder: str | Path) -> int:
    """Count the images that lie directly in a folder."""
    return sum(is_image(entry.name) and entry.is_file() for entry in scan(folder))


def holds_images(folder: str | Path) -> bool:
    """Return whether there is an image among the first files of a folder and all below it."""
    return any(is_image(name) for name in islice(_names_below(folder), _NUM_LOOKED_AT))


def _names_below(folder: str | Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names
