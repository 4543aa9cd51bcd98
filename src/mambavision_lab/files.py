"""Find the package's configs and a run's checkpoints; write and verify files that are whole or not there."""

import os
import uuid
import zipfile
import zlib
from pathlib import Path

BEST_CHECKPOINT, LAST_CHECKPOINT = (
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
)  # in a run folder
_PACKAGE = Path(__file__).parent


def configs_folder() -> Path:
    """Return the folder of configs: inside an installed package, beside src/ in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parents[1] / "configs"


def list_choices(group: str) -> list[str]:
    """List the choices of a config group, such as "nvidia/mambavision_t" of `model`, sorted."""
    folder = configs_folder() / group
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, flush it to the disk, and rename it into place.

    A reader, also one after a crash, finds the old content or the new one, never a part of it. Several
    processes, on several machines too, may write the same path.

    Raises:
        OSError: The folder cannot be written to; an earlier file is as it was.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def verify_archive(path: Path) -> None:
    """Compare the records of a zip archive, such as `torch.save` writes, with their checksums.

    `torch.load` does not: it takes flipped bits for weights. A file that is no zip archive passes.

    Raises:
        ValueError: A record is damaged; the message names it.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    # Flipped bits in what describes a record can make it look encrypted, or compressed in another way.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if damaged is not None:
        raise ValueError(f"its record {damaged} does not have the checksum that was stored with it")
