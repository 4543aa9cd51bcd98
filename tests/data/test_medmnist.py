import hashlib
from collections import Counter

import numpy as np
import pytest

from mambavision_lab.data import medmnist
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.medmnist import MedMNISTDataModule
from mambavision_lab.data.medmnist_sets import SETS

NUM = {"train": 8, "val": 4, "test": 3}


def arrays_of(name, size=28, **changed):
    """The arrays of a set's file, as the real ones but small."""
    generator = np.random.default_rng(0)
    colours = (3,) if SETS[name].in_chans == 3 else ()
    arrays = {}
    for split, num in NUM.items():
        labels = (np.arange(num, dtype=np.uint8) % SETS[name].num_classes)[:, None]
        images = generator.integers(0, 256, (num, size, size, *colours), dtype=np.uint8)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays | changed


@pytest.fixture
def write(tmp_path):
    """Write a set's file into tmp_path and make its data module."""

    def call(name, size=28, *, settings=(), **changed):
        file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
        np.savez_compressed(tmp_path / file, **arrays_of(name, size, **changed))
        options = {"root": tmp_path, "subset": name, "source_size": size, "batch_size": 4}
        return create_datamodule("medmnist", **(options | dict(settings)))

    return call


@pytest.mark.parametrize(
    ("name", "size", "in_chans", "num_classes", "flips"),
    [
        ("bloodmnist", 28, 3, 8, True),
        ("organsmnist", 28, 1, 11, False),
        ("breastmnist", 64, 1, 2, True),
    ],
)
def test_medmnist_takes_size_channels_and_classes_of_the_set(
    write, name, size, in_chans, num_classes, flips
):
    data = write(name, size)
    assert (data.in_chans, data.num_classes, data.image_size) == (in_chans, num_classes, size)
    assert data.flip_keeps_class is flips
    assert data.class_names == list(SETS[name].class_names)
    arrays = arrays_of(name, size)
    for split in NUM:
        part, images = getattr(data.splits, split), arrays[f"{split}_images"]
        channels_first = images[:, None] if in_chans == 1 else images.transpose(0, 3, 1, 2)
        assert np.array_equal(part.images.numpy(), channels_first)
        assert np.array_equal(part.labels.numpy(), arrays[f"{split}_labels"][:, 0])
    labels = [labels for _, labels, *_ in data.train_dataloader()]
    assert Counter(np.concatenate(labels).tolist()) == Counter(
        arrays["train_labels"][:, 0].tolist()
    )


def test_medmnist_is_resized_and_converted(write):
    data = write("octmnist", settings={"image_size": 32, "in_chans": 3})
    assert data.splits.test.images.shape == (3, 3, 32, 32)


def test_medmnist_sets_are_those_of_the_source():
    assert {name: info.num_classes for name, info in SETS.items() if info.in_chans == 3} == {
        "pathmnist": 9,
        "dermamnist": 7,
        "retinamnist": 5,
        "bloodmnist": 8,
    }
    images = [info for info in SETS.values() if info.num_axes == 2]
    assert len(images) == 11
    for info in images:
        assert set(info.md5) == {28, 64, 128, 224}
        assert {len(md5) for md5 in info.md5.values()} == {32}


def test_medmnist_is_downloaded_and_verified(served, tmp_path, monkeypatch, refusal):
    address, folder = served
    monkeypatch.setattr(medmnist, "URL", f"{address}/{{file}}?download=1")
    np.savez(folder / "octmnist.npz", **arrays_of("octmnist"))
    md5 = hashlib.md5((folder / "octmnist.npz").read_bytes()).hexdigest()
    data = create_datamodule("medmnist", root=tmp_path / "new", subset="octmnist")
    assert "its checksum is another" in refusal(data.prepare_data)
    assert not list((tmp_path / "new").iterdir())
    monkeypatch.setitem(SETS["octmnist"].md5, 28, md5)
    data.prepare_data()
    assert len(data.splits.test) == 3
    gone = create_datamodule("medmnist", root=tmp_path / "new", subset="octmnist", source_size=64)
    message = refusal(gone.prepare_data)
    assert f"{tmp_path}/new/octmnist_64.npz: is not there and could not be downloaded" in message
    assert "404" in message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"val_labels": np.full((4, 1), 4, np.uint8)},
            "val_labels[0] is 4; octmnist has the classes 0 to 3",
        ),
        (
            {"val_labels": np.zeros((3, 1), np.uint8)},
            "val_images are (4, 28, 28) uint8, labels (3,)",
        ),
        ({"val_labels": np.zeros((4, 14), np.uint8)}, "cannot be read"),
        ({"test_images": np.zeros((3, 28, 28, 28), np.uint8)}, "wanted uint8 (3, 28, 28)"),
        ({"test_images": np.zeros((3, 28, 28))}, "test_images are (3, 28, 28) float64"),
    ],
)
def test_medmnist_refuses_a_file_of_another_set(write, refusal, changed, message):
    assert message in refusal(lambda: write("octmnist", **changed).splits)


def test_medmnist_names_a_damaged_file(write, tmp_path, refusal):
    data = write("octmnist")
    file = tmp_path / "octmnist.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert f"{file}: cannot be read" in refusal(lambda: data.splits)
    np.savez(file, train_images=np.zeros(3))
    assert f"{file}: cannot be read" in refusal(lambda: data.splits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset": "chestmnist"}, "data.subset=chestmnist: its images have several labels each"),
        (
            {"subset": "organmnist"},
            "data.subset=organmnist is unknown; choose one of pathmnist, ",
        ),
        ({"source_size": 32}, "data.source_size=32 is unknown; choose one of 28, 64, 128, 224"),
    ],
)
def test_medmnist_refuses_unknown_sets_and_sizes(refusal, settings, message):
    assert message in refusal(lambda: create_datamodule("medmnist", **settings))


def test_medmnist_constructor_refuses_what_its_base_does():
    with pytest.raises(TypeError, match="sharpness"):
        MedMNISTDataModule(subset="octmnist", sharpness=1)
