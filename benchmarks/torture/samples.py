"""Small data sets in the form that each data module reads, sound or with some damage.

Each function writes one below a folder and returns the name and the settings of its data module.
"""

import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.torture.forked import run_forked
from PIL import Image

Made = tuple[str, dict[str, Any]]

_FORMATS = ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm")
_MODES = ("RGB", "L", "RGBA", "P", "1", "I;16")


def _picture(rng: random.Random, suffix: str) -> bytes:
    mode = rng.choice(_MODES) if suffix in ("png", "tif") else "RGB"
    size = rng.randint(17, 60), rng.randint(17, 60)
    content = io.BytesIO()
    noise = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (*size, 3), np.uint8)
    image = Image.fromarray(noise)
    image = image.convert("L").convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    image.save(content, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    return content.getvalue()


def _bomb(suffix: str) -> bytes:
    """A small file of more pixels than are taken."""
    content = io.BytesIO()
    Image.new("1", (20000, 15000)).save(content, "png" if suffix == "png" else "tiff")
    return content.getvalue()


def _damage(rng: random.Random, content: bytes) -> bytes:
    """Flip bits, cut, repeat or overwrite some bytes; early ones, of headers, more often."""
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if not damaged:
            break
        near = rng.random() < 0.5
        place = rng.randrange(min(len(damaged), 64) if near else len(damaged))
        kind = rng.randrange(5)
        if kind == 0:
            damaged[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
        elif kind == 2:
            del damaged[place:]
        elif kind == 3:
            damaged[place:place] = damaged[: rng.randrange(64)]
        else:
            damaged[place : place + 16] = rng.randbytes(16)
    return bytes(damaged)


def _folder(rng: random.Random, root: Path, is_damaged: bool) -> None:
    for split in ("train", "val", "test"):
        for label in ("a", "b"):
            (root / split / label).mkdir(parents=True)
            for i in range(2):
                suffix = rng.choice(_FORMATS)
                (root / split / label / f"{i}.{suffix}").write_bytes(_picture(rng, suffix))
    if is_damaged:
        suffix = rng.choice(_FORMATS)
        split = rng.choice(("train", "val", "test"))
        is_bomb = suffix in ("png", "tif") and rng.random() < 0.2
        content = _bomb(suffix) if is_bomb else _damage(rng, _picture(rng, suffix))
        (root / split / "a" / f"x.{suffix}").write_bytes(content)


def _image_folder(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    _folder(rng, root, is_damaged)
    choice = rng.choice([{}, {"on_bad_image": "skip"}, {"check_files": False}, {"cache": "memory"}])
    return "image_folder", {"root": root, **choice}


def _labels_file(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    _folder(rng, root, False)
    paths = sorted(path.relative_to(root) for path in root.rglob("*.*"))
    text = "file,label,split\n" + "".join(f"{p},{p.parts[1]},{p.parts[0]}\n" for p in paths)
    content = _damage(rng, text.encode()) if is_damaged else text.encode()
    (root / "labels.csv").write_bytes(content)
    return "image_folder", {"root": root, "labels_file": root / "labels.csv"}


def _imagenet(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    _folder(rng, root, is_damaged)
    return "imagenet", {"root": root, "num_classes": 2, "val_fraction": 0.5}


def _webdataset(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    root.mkdir(parents=True)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for i in range(8):
            picture = _picture(rng, "png")
            picture = (
                _damage(rng, picture) if is_damaged and i == 3 and rng.random() < 0.5 else picture
            )
            for name, data in ((f"{i}.png", picture), (f"{i}.cls", str(i % 2).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    archive = content.getvalue()
    archive = _damage(rng, archive) if is_damaged and rng.random() < 0.7 else archive
    (root / "train-0.tar").write_bytes(archive)
    given = {
        "classes": ["a", "b"],
        "num_classes": 2,
        "val_fraction": 0.3,
        "cache_dir": root / "cache",
    }
    return "webdataset", {"root": root, **given}


def _hf(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    """Parquet files with encoded images, as `datasets` writes them."""
    root.mkdir(parents=True)
    pictures = [_picture(rng, "png") for _ in range(8)]
    if is_damaged and rng.random() < 0.5:
        pictures[3] = _damage(rng, pictures[3])
    path = root / "train-00000-of-00001.parquet"

    def write() -> None:
        import datasets

        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
        columns = {"image": [{"bytes": p, "path": None} for p in pictures], "label": [0, 1] * 4}
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        table.to_parquet(path)

    run_forked(write, 60)
    if is_damaged and rng.random() < 0.5:
        path.write_bytes(_damage(rng, path.read_bytes()))
    return "hf", {"root": root, "val_fraction": 0.3}


def _medmnist(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    root.mkdir(parents=True)
    content = io.BytesIO()
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((9, 28, 28, 3), np.uint8)
        arrays[f"{split}_labels"] = np.arange(9)[:, None]
    np.savez(content, **arrays)
    data = content.getvalue()
    (root / "pathmnist.npz").write_bytes(_damage(rng, data) if is_damaged else data)
    return "medmnist", {"root": root, "subset": "pathmnist", "num_classes": 9}


def _fashion_mnist(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    root.mkdir(parents=True)
    spoilt = rng.randrange(4)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for i, name in enumerate(names):
        shape = (20, 28, 28) if "images" in name else (20,)
        values = (
            np.zeros(shape, np.uint8) if len(shape) == 3 else np.arange(20, dtype=np.uint8) % 10
        )
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        data, is_bad = head + values.tobytes(), is_damaged and i == spoilt
        data = _damage(rng, data) if is_bad and rng.random() < 0.5 else data
        packed = gzip.compress(data)
        packed = _damage(rng, packed) if is_bad and rng.random() < 0.5 else packed
        (root / f"{name}-ubyte.gz").write_bytes(packed)
    return "fashion_mnist", {"root": root}


def _cifar10(rng: random.Random, root: Path, is_damaged: bool) -> Made:
    """Damaged files of CIFAR are never read: their checksums are known."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (root / "cifar-10-python.tar.gz").write_bytes(_damage(rng, gzip.compress(bytes(5000))))
    (folder / "test_batch").write_bytes(rng.randbytes(100))
    return "cifar10", {"root": root}


SAMPLES: dict[str, Callable[[random.Random, Path, bool], Made]] = {
    "image_folder": _image_folder,
    "labels_file": _labels_file,
    "imagenet": _imagenet,
    "webdataset": _webdataset,
    "hf": _hf,
    "medmnist": _medmnist,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
}
