"""The files of CIFAR-10 and CIFAR-100, which are pickles in an archive, read without trusting either.

Only the files that the data set has are taken from the archive, each is compared with its published checksum,
and a pickle may hold arrays, texts and numbers alone.
"""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

from torchvision.datasets import CIFAR10

from mambavision_lab.data.download import download
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import write_atomically

_ARRAYS = {
    *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


def read_cifar(source: type[CIFAR10], root: Path) -> dict[str, dict[str, Any]]:
    """Read all files of a set, by name; downloads and unpacks its archive where they are not there.

    Args:
        source: torchvision's class of the set, which knows addresses, names and checksums.
        root: Folder of the archive, and of the folder that is unpacked.

    Raises:
        ConfigError: A file cannot be got, is damaged, or holds anything but data.
    """
    sums = dict(
        [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    )
    folder = root / source.base_folder
    contents = {name: _read(folder / name, md5) for name, md5 in sums.items()}
    if not all(contents.values()):
        archive = root / source.filename
        download(source.url, archive, source.tgz_md5)
        contents |= _unpack(archive, folder, sums)
    return {name: _load(folder / name, content or b"") for name, content in contents.items()}


def _read(path: Path, md5: str) -> bytes | None:
    """Read a file; None where it is not there, or damaged."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    return content if _md5(content) == md5 else None


def _unpack(archive: Path, folder: Path, sums: dict[str, str]) -> dict[str, bytes]:
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for name, md5 in sums.items():
                member = tar.extractfile(
                    f"{folder.name}/{name}"
                )  # not written by the archive itself
                content = member.read() if member is not None else b""
                if _md5(content) != md5:
                    raise ValueError(f"{name} has another checksum than the published one")
                contents[name] = content
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
        raise ConfigError(
            f"{archive}: is not the published archive ({reason(error)}); remove it to download it again"
        ) from error
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return contents


def _load(path: Path, content: bytes) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = _DataUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # of many kinds, from pickles that are none
        raise ConfigError(
            f"{path}: holds no data that can be read ({reason(error)}); remove it"
        ) from error
    return loaded


class _DataUnpickler(pickle.Unpickler):
    """Unpickle arrays, texts, numbers, lists and dictionaries; anything else is refused, not called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return super().find_class(module, name)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
