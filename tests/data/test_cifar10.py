import pickle
import tarfile

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from mambavision_lab.data.cifar10 import CIFAR10DataModule


@pytest.fixture
def archive(cifar_archive):
    return cifar_archive(CIFAR10, 10)


def make(root, **settings):
    defaults = {"image_size": 32, "in_chans": 3, "num_classes": 10, "mean": [0.5], "std": [0.25]}
    return CIFAR10DataModule(root=str(root), **(defaults | settings))


def test_cifar10_downloads_and_reads_the_archive(archive, tmp_path):
    _, content = archive
    splits = make(tmp_path / "root").splits
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [180, 20, 40]
    assert splits.class_names == [f"thing{k}" for k in range(10)]
    batch = pickle.loads((content / "test_batch").read_bytes())
    np.testing.assert_array_equal(splits.test.images.reshape(40, 3072).numpy(), batch["data"])
    assert splits.test.labels.tolist() == batch["labels"]


def test_cifar10_images_keep_their_labels_when_held_out(archive, tmp_path):
    _, content = archive
    label_of = {}
    for file in content.glob("data_batch_*"):
        batch = pickle.loads(file.read_bytes())
        label_of |= zip(map(bytes, batch["data"]), batch["labels"], strict=True)
    splits = make(tmp_path / "root").splits
    for part in (splits.train, splits.val):
        for image, label in zip(part.images, part.labels, strict=True):
            assert label_of[image.numpy().tobytes()] == label


def test_cifar10_splits_are_disjoint_and_fixed_by_seed(archive, tmp_path, image_counts):
    first, again, other = (image_counts(make(tmp_path, seed=s).splits) for s in (0, 0, 1))
    assert len(first["train"] | first["val"] | first["test"]) == 240
    assert first == again
    assert first["val"] != other["val"]
    assert first["test"] == other["test"]


def test_cifar10_takes_an_archive_that_lies_in_root(archive, tmp_path, refusal):
    root = tmp_path / "root"
    root.mkdir()
    archive[0].rename(root / CIFAR10.filename)  # nothing is left to download
    assert len(make(root).splits.test) == 40
    (root / CIFAR10.filename).unlink()  # nor needed once it is unpacked
    assert len(make(root).splits.test) == 40
    assert "404" in refusal(lambda: make(tmp_path / "other").splits)


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("tgz_md5", "0" * 32, "its checksum is another"),
        ("url", "http://127.0.0.1:9/no-server.tar.gz", "urlopen error"),
    ],
)
def test_cifar10_refuses_a_wrong_sum_and_an_unreachable_source(
    archive, tmp_path, monkeypatch, refusal, attribute, value, reason
):
    monkeypatch.setattr(CIFAR10, attribute, value)
    root = tmp_path / "nowhere"
    message = refusal(lambda: make(root).splits)
    for part in (f"data.root={root}", reason, CIFAR10.filename):
        assert part in message


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (self.trace, "w")


@pytest.mark.parametrize("is_unpacked", [False, True])
def test_cifar10_runs_no_pickled_code(tmp_path, cifar_archive, monkeypatch, refusal, is_unpacked):
    trace, pack = tmp_path / "trace", pickle.dumps

    def spoil(content):  # with checksums that fit
        return pack(content | {"more": Hostile(str(trace))})

    monkeypatch.setattr(pickle, "dumps", spoil)
    archive, content = cifar_archive(CIFAR10, 10)
    root = tmp_path / "root"
    root.mkdir()
    content.rename(root / content.name) if is_unpacked else archive.rename(root / archive.name)
    assert "it would call " in refusal(lambda: make(root).splits)
    assert not trace.exists()


def test_cifar10_takes_nothing_else_from_its_archive(archive, tmp_path):
    path, content = archive
    with tarfile.open(path, "w:gz") as tar:
        tar.add(content, CIFAR10.base_folder)
        tar.add(content / "test_batch", "../outside")
        link = tarfile.TarInfo(f"{CIFAR10.base_folder}/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
    root = tmp_path / "root" / "data"
    root.mkdir(parents=True)
    path.rename(root / path.name)
    assert len(make(root).splits.test) == 40
    assert [*root.parent.iterdir()] == [root]
    assert not (root / CIFAR10.base_folder / "link").is_symlink()
