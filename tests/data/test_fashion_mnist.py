import gzip
import hashlib
import struct

import numpy as np
import pytest
from torchvision.datasets import FashionMNIST

from mambavision_lab.data import fashion_mnist
from mambavision_lab.data.fashion_mnist import DEBIAN_FOLDER, FILES, FashionMNISTDataModule

NUM = {"train": 60, "t10k": 20}
REAL = DEBIAN_FOLDER
needs_real_files = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"Debian's package dataset-fashion-mnist is not in {REAL}"
)


@pytest.fixture(autouse=True)
def debian_folder(tmp_path, monkeypatch):
    folder = tmp_path / "debian"
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder)
    return folder


def arrays():
    generator = np.random.default_rng(0)
    return {
        (part, kind): generator.integers(0, 256, (NUM[part], 28, 28), dtype=np.uint8)
        if kind == "images"
        else (np.arange(NUM[part]) % 10).astype(np.uint8)
        for part, kind in FILES
    }


def write_idx(folder, is_gzipped):
    folder.mkdir(parents=True, exist_ok=True)
    for key, values in arrays().items():
        header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        data = header + values.tobytes()
        if is_gzipped:
            (folder / f"{FILES[key]}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / FILES[key]).write_bytes(data)
    return folder


def make(root, **settings):
    defaults = {"image_size": 28, "in_chans": 1, "num_classes": 10, "mean": [0.5], "std": [0.25]}
    return FashionMNISTDataModule(root=str(root), **(defaults | settings))


def assert_is_written_data(splits):
    written = arrays()
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [50, 10, 20]
    np.testing.assert_array_equal(splits.test.images[:, 0].numpy(), written["t10k", "images"])
    np.testing.assert_array_equal(splits.test.labels.numpy(), written["t10k", "labels"])
    label_of = dict(
        zip(map(bytes, written["train", "images"]), written["train", "labels"], strict=True)
    )
    for part in (splits.train, splits.val):
        for image, label in zip(part.images, part.labels, strict=True):
            assert label_of.pop(image.numpy().tobytes()) == label
    assert not label_of  # each training image is in one of the two parts, once
    assert splits.class_names[0] == "T-shirt/top"


@pytest.mark.parametrize("is_gzipped", [True, False])
@pytest.mark.parametrize("location", ["root", "root/FashionMNIST/raw", "debian"])
def test_fashion_mnist_reads_idx_files_wherever_they_lie(tmp_path, location, is_gzipped):
    write_idx(tmp_path / location, is_gzipped)
    assert_is_written_data(make(tmp_path / "root").splits)


def test_fashion_mnist_splits_are_fixed_by_seed(tmp_path, image_counts):
    root = write_idx(tmp_path / "root", True)
    first, again, other = (image_counts(make(root, seed=s).splits) for s in (0, 0, 1))
    assert first == again
    assert first["val"] != other["val"]


def test_fashion_mnist_downloads_what_is_in_no_folder(tmp_path, served, monkeypatch):
    address, folder = served
    write_idx(folder, is_gzipped=True)
    sums = [
        (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
        for name, _ in FashionMNIST.resources
    ]
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"{address}/"])
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    assert_is_written_data(make(tmp_path / "root").splits)


def test_fashion_mnist_reports_where_it_looked(tmp_path, debian_folder, monkeypatch, refusal):
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    message = refusal(lambda: make(tmp_path / "root").splits)
    assert f"data.root={tmp_path / 'root'}" in message
    assert str(debian_folder) in message


def cut(data):
    return data[:-1]


def spoil_magic(data):
    return b"\x89PNG" + data[4:]


def spoil_stream(data):
    return data[:10] + b"\xff" + data[11:]  # no such type of compressed block


@pytest.mark.parametrize(
    ("spoil", "is_gzipped"),
    [
        (cut, True),
        (cut, False),
        (spoil_magic, True),
        (spoil_magic, False),
        (lambda data: b"", True),
        (lambda data: b"", False),
        (spoil_stream, True),
    ],
)
def test_fashion_mnist_refuses_a_corrupt_file_by_name(tmp_path, refusal, spoil, is_gzipped):
    root = write_idx(tmp_path / "root", is_gzipped)
    file = root / (FILES["t10k", "images"] + (".gz" if is_gzipped else ""))
    file.write_bytes(spoil(file.read_bytes()))
    assert str(file) in refusal(lambda: make(root).splits)


@needs_real_files
def test_fashion_mnist_real_files_match_the_config(tmp_path, monkeypatch, stated, measured):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", REAL)
    data = make(tmp_path, **stated("fashion_mnist"))
    splits = data.splits
    for part, per_class in ((splits.train, 5400), (splits.val, 600), (splits.test, 1000)):
        assert part.labels.bincount().tolist() == [per_class] * 10
        assert part.images.shape == (10 * per_class, 1, 28, 28)
    for name, values in measured(data).items():
        assert values.tolist() == pytest.approx(getattr(data, name), abs=0.02), name
