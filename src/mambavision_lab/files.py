"""Find the package's configs and a run's checkpoints; write and verify files that are whole or not there."""

import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

BEST_CHECKPOINT, LAST_CHECKPOINT = (
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
)  # in a run folder
WEIGHTS, CONFIG = "model.safetensors", "config.json"  # of a folder of weights
PRUNED_WEIGHTS = "pruned"  # there: the weights that the training of a pruned network starts from
WEIGHTS_SUFFIXES = (".safetensors", ".ckpt", ".pth.tar", ".pth", ".pt", ".bin")
UNFINISHED = ".part"  # suffix of a file that is being written
_PACKAGE = Path(__file__).parent


def configs_folder() -> Path:
    """Return the folder of configs: inside an installed package, beside src/ in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "configs"


def list_choices(group: str) -> list[str]:
    """List the choices of a config group, such as "nvidia/mambavision_t" of `model`, sorted."""
    folder = configs_folder() / group
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


def is_hub_id(source: str) -> bool:
    """Return whether the name of weights is that of a repository on the Hugging Face hub: OWNER/NAME."""
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source) is not None
    return is_id and not source.endswith(WEIGHTS_SUFFIXES)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file as `replacing` does.

    Raises:
        OSError: The folder cannot be written to; an earlier file is as it was.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside its place; when the block ends, flush it to the disk and rename it into place.

    A reader, also one after a crash, finds the old content or the new one, never a part of it. Several
    processes, on several machines too, may write the same path.

    Raises:
        OSError: The folder cannot be written to; an earlier file is as it was.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename a file, over another one too, and flush that to the disk."""
    source.replace(target)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, which another file may have had; a copy where links are unknown."""
    unfinished = target.with_name(f".{uuid.uuid4().hex}{UNFINISHED}")
    try:
        os.link(source, unfinished)
        rename(unfinished, target)
    except OSError:
        with source.open("rb") as file, replacing(target) as copy:
            shutil.copyfileobj(file, copy)
    finally:
        unfinished.unlink(missing_ok=True)


def find_damage(path: Path) -> str | None:
    """Return what is damaged in a zip archive, as torch writes it; torch itself compares no checksums.

    None where all is as it was written, where the archive has no checksums, or where it is no archive.
    """
    return check_archive(path) if zipfile.is_zipfile(path) else None


def check_archive(path: Path) -> str | None:
    """Return what is damaged in a zip archive, read whole; None where each part fits its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            has_checksums = any(part.CRC for part in archive.infolist())
            part = archive.testzip() if has_checksums else None
    except Exception as error:  # of many kinds, each of them damage
        return str(error) or type(error).__name__
    return part and f"{part} does not fit its checksum"
