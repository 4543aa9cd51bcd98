"""Fixtures for the tests of data modules: served files, image folders, counts of images."""

import functools
import hashlib
import pickle
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.splits import Splits
from mambavision_lab.files import configs_folder

PARTS = ("train", "val", "test")


@pytest.fixture
def image_counts() -> Callable[[Splits], dict[str, Counter]]:
    """Count the images of each split of in-memory data by their bytes."""
    return lambda splits: {
        part: Counter(image.numpy().tobytes() for image in getattr(splits, part).images)
        for part in PARTS
    }


@pytest.fixture
def stated() -> Callable[[str], DictConfig]:
    """Mean and std that configs/data/<name>.yaml states."""
    return lambda name: OmegaConf.masked_copy(
        OmegaConf.load(configs_folder() / "data" / f"{name}.yaml"), ["mean", "std"]
    )


@pytest.fixture
def measured() -> Callable[[ImageDataModule], dict[str, Tensor]]:
    """Mean and std per channel of a data module's training images in [0, 1]."""

    def measure(data: ImageDataModule) -> dict[str, Tensor]:
        images = data.splits.train.images.double() / 255
        return {"mean": images.mean((0, 2, 3)), "std": images.std((0, 2, 3))}

    return measure


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server on this machine's loopback address: its address and the folder that it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cifar_archive(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, Path]]:
    """Serve a small archive in CIFAR's format, with 4 images a class and batch, as the real one.

    Returns the archive and the folder of the files that are in it.
    """
    address, folder = served

    def md5(path: Path) -> str:
        return hashlib.md5(path.read_bytes()).hexdigest()

    def pack(source: type[CIFAR10], num_classes: int) -> tuple[Path, Path]:
        content = tmp_path / source.base_folder
        content.mkdir()
        generator = np.random.default_rng(0)
        labels_key = "labels" if source is CIFAR10 else "fine_labels"
        for name, _ in source.train_list + source.test_list:
            labels = (np.arange(4 * num_classes) % num_classes).tolist()
            pixels = generator.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
            batch = {"data": pixels, "coarse_labels": [0] * len(labels), labels_key: labels}
            (content / name).write_bytes(pickle.dumps(batch))
        names = {source.meta["key"]: [f"thing{k}" for k in range(num_classes)]}
        (content / source.meta["filename"]).write_bytes(pickle.dumps(names))
        archive = folder / source.filename
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(content, source.base_folder)
        monkeypatch.setattr(source, "url", f"{address}/{source.filename}")
        monkeypatch.setattr(source, "tgz_md5", md5(archive))
        for key in ("train_list", "test_list"):
            sums = [[name, md5(content / name)] for name, _ in getattr(source, key)]
            monkeypatch.setattr(source, key, sums)
        meta_md5 = md5(content / source.meta["filename"])
        monkeypatch.setattr(source, "meta", source.meta | {"md5": meta_md5})
        return archive, content

    return pack


@pytest.fixture
def write_images() -> Callable[..., Path]:
    """Write class folders with `num` images each, of one colour each; returns the folder."""

    def write(
        folder: Path, num: int, class_names: str = "ant bee cat", suffix: str = "png"
    ) -> Path:
        for k, name in enumerate(class_names.split()):
            (folder / name).mkdir(parents=True)
            for i in range(num):
                image = Image.new("RGB", (20, 16), (60 * k, 10 * i, 200))
                image.save(folder / name / f"{i}.{suffix}")
        return folder

    return write
