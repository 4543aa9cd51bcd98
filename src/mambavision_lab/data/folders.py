"""Tell images, volumes or clips, subfolders and leftovers in a folder apart; standard library only."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mambavision_lab.errors import ConfigError, reason

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    *(".png", ".apng", ".webp", ".avif", ".gif", ".tif", ".tiff"),
    *(".bmp", ".dib", ".tga", ".pcx", ".qoi", ".pbm", ".pgm", ".pnm", ".ppm"),
)
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class FileKind:
    """What a data set is made of.

    Attributes:
        noun: What messages call several of them.
        suffixes: Of files that are one each.
        parts: Suffixes of the files of which a folder makes one, such as the frames of a clip.
    """

    noun: str
    suffixes: tuple[str, ...]
    parts: tuple[str, ...] = ()

    def is_file(self, name: str) -> bool:
        """Return whether a file's name, which is not hidden, is that of one of them."""
        return _has_suffix(name, self.suffixes)

    def is_part(self, name: str) -> bool:
        """Return whether a file's name is that of a part of one of them."""
        return _has_suffix(name, self.parts)

    def is_folder(self, folder: str | Path) -> bool:
        """Return whether a folder is one of them, since it holds parts."""
        return bool(self.parts) and any(self.is_part(entry.name) for entry in scan(folder))


IMAGES = FileKind("images", IMAGE_SUFFIXES)
VOLUMES = FileKind("volumes", (".nii", ".nii.gz", ".npy"), DICOM_SUFFIXES)
CLIPS = FileKind("clips", VIDEO_SUFFIXES, IMAGE_SUFFIXES)
KINDS = {kind.noun: kind for kind in (IMAGES, VOLUMES, CLIPS)}

# What archives, desktops and file servers leave in a folder.
_LEFTOVERS = {
    *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "lost+found", "__pycache__"),
}
_NUM_LOOKED_AT = 1000  # files among which a folder's images are looked for


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image, which is not hidden."""
    return IMAGES.is_file(name)


def describe_others(names: Iterable[str], kind: FileKind = IMAGES) -> str:
    """Count the files among names that are not of a kind, by suffix, most frequent first; "" for none."""
    others = (
        n for n in names if not kind.is_file(n) and n[0] != "." and n.lower() not in _LEFTOVERS
    )
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


def count_files(folder: str | Path, kind: FileKind = IMAGES) -> int:
    """Count the files of a kind that lie directly in a folder."""
    return sum(kind.is_file(entry.name) and entry.is_file() for entry in scan(folder))


def holds_files(folder: str | Path, kind: FileKind = IMAGES) -> bool:
    """Return whether there is one of a kind among the first files of a folder and all below it."""
    names = islice(_names_below(folder), _NUM_LOOKED_AT)
    return any(kind.is_file(name) or kind.is_part(name) for name in names)


def _has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.startswith(".")


def _names_below(folder: str | Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names
