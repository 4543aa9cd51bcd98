"""Images in tar shards, as webdataset writes them: where each lies, so that any can be read by itself.

The members of a sample follow each other and share the name up to its first dot: `0001.jpg`, `0001.cls`.
Standard library only, so that classes can be counted while a config is composed.

Source: Aizman et al. 2019, High Performance I/O for Large Scale Deep Learning, arXiv:2001.01858.
"""

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mambavision_lab.data.encoded import EncodedImage
from mambavision_lab.data.folders import is_image
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import write_atomically

_MOST_FILLING = 2**20  # bytes of zeros behind a tar's last member; most programs fill up to 10,240


@dataclass(frozen=True, slots=True)
class Member(EncodedImage):
    """A file in an uncompressed tar.

    Attributes:
        shard: Path of the tar.
        path: Its own in there.
        offset: Its first byte in the tar.
        size: Its bytes.
    """

    shard: str
    path: str
    offset: int
    size: int

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the tar."""
        return (self.shard,)

    def __str__(self) -> str:
        return f"{self.shard}: {self.path}"

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            EOFError: The shard has become shorter.
        """
        with open(self.shard, "rb") as file:  # noqa: PTH123, a Path for each image takes time
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise EOFError("the shard ends early")
        return content


LabelledMember = tuple[Member, str]
Row = tuple[str, int, int, str]  # path, offset, size and label of an image


def list_samples(shard: str, label_key: str, cache_dir: str) -> list[LabelledMember]:
    """List the images of a shard with their labels, in order.

    The list is kept in cache_dir, as long as the shard is the same.

    Args:
        shard: Path of the tar.
        label_key: Suffix of the member that holds the label, or json.FIELD.
        cache_dir: Where the list is kept.

    Raises:
        ConfigError: The shard is no tar or ends early, or a sample lacks its image or label.
    """
    try:
        status = Path(shard).stat()
        state = [str(Path(shard).resolve()), status.st_size, status.st_mtime_ns, label_key]
        digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
        kept = Path(cache_dir) / "index" / f"{digest[:32]}.json"
        rows = _read_rows(kept)
        if rows is None:
            with tarfile.open(shard, "r:") as tar:
                rows = list(_scan(shard, tar, label_key))
            with contextlib.suppress(OSError):  # a full disk, say; it is listed again then
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(kept, json.dumps(rows))
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ConfigError(
            f"{shard}: is no uncompressed tar, or ends early ({reason(error)}); remove it and fetch it again"
        ) from error
    if not rows:
        raise ConfigError(f"{shard}: holds no images; remove it")
    return [(Member(shard, path, offset, size), label) for path, offset, size, label in rows]


def _read_rows(path: Path) -> list[Row] | None:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _scan(shard: str, tar: tarfile.TarFile, label_key: str) -> Iterator[Row]:
    members = tar.getmembers()
    _check_end(tar)
    files = (member for member in members if member.isfile() and not _is_hidden(member.name))
    keys = set()
    for key, group in groupby(files, key=lambda member: _split_name(member.name)[0]):
        several = [(_split_name(member.name)[1], member) for member in group]
        found = dict(several)
        if key in keys or len(found) < len(several):
            raise ConfigError(
                f"{shard}: holds {key} twice, so that its image would count twice; write the shard anew"
            )
        keys.add(key)
        images = [member for suffix, member in found.items() if is_image(f"x.{suffix}")]
        if len(images) != 1:
            raise ConfigError(
                f"{shard}: {key} has {len(images)} images among {', '.join(found)}; wanted one with "
                "its label behind it"
            )
        label = _read_label(shard, tar, key, found, label_key)
        yield images[0].name, images[0].offset_data, images[0].size, label


def _read_label(
    shard: str, tar: tarfile.TarFile, key: str, found: dict[str, tarfile.TarInfo], label_key: str
) -> str:
    suffix, _, field = label_key.partition(".")
    member = found.get(suffix)
    if member is None:
        raise ConfigError(
            f"{shard}: {key} has no .{suffix} among {', '.join(found)}; wanted its label behind the "
            "image; data.label_key names another suffix"
        )
    content = tar.extractfile(member)
    assert content is not None
    try:
        text = content.read().decode().strip()
        value = json.loads(text)[field] if field else text
        if value is None:
            raise ValueError(f"{field} is null")
        label = str(value).strip()
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{shard}: {member.name} holds no label ({reason(error)}); wanted a number or a name"
        ) from error
    if not label:
        raise ConfigError(f"{shard}: {member.name} is empty; wanted a number or a name")
    return label


def _check_end(tar: tarfile.TarFile) -> None:
    """Check that a tar which was read to its end ends with a block of zeros, and no more than filling."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    rest = tar.fileobj.read(_MOST_FILLING + 1)
    if len(rest) < tarfile.BLOCKSIZE or any(rest[: tarfile.BLOCKSIZE]):
        raise EOFError("the mark of its end is missing")
    if any(rest):
        raise EOFError("more follows behind the mark of its end")
    if len(rest) > _MOST_FILLING:
        raise EOFError("zeros follow in place of more samples")


def _split_name(path: str) -> tuple[str, str]:
    """Divide a path at the first dot of its name into key and suffix, the latter in lower case."""
    folder, name = os.path.split(path)
    stem, _, suffix = name.partition(".")
    return os.path.join(folder, stem), suffix.lower()


def _is_hidden(path: str) -> bool:
    return os.path.basename(path).startswith(".")  # noqa: PTH119
