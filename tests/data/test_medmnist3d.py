import hashlib

import numpy as np
import pytest
import torch

from mambavision_lab.data import medmnist
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.medmnist_sets import SETS

NUM = {"train": 6, "val": 3, "test": 2}


def arrays_of(name, size=28, **changed):
    """The arrays of a set's file, as the real ones but few."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, num in NUM.items():
        labels = (np.arange(num, dtype=np.uint8) % SETS[name].num_classes)[:, None]
        images = generator.integers(0, 256, (num, size, size, size), dtype=np.uint8)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays | changed


@pytest.fixture
def written(tmp_path):
    def call(name, size=28, settings=(), **changed):
        file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
        np.savez_compressed(tmp_path / file, **arrays_of(name, size, **changed))
        options = {"root": tmp_path, "subset": name, "source_size": size, "batch_size": 3}
        return create_datamodule("medmnist3d", **(options | dict(settings)))

    return call


def test_medmnist3d_reaches_the_network_as_volumes(written):
    data = written("fracturemnist3d")
    assert (data.num_classes, data.num_slices, data.flip_keeps_class) == (3, 28, True)
    images, labels = data.prepare_batch(next(iter(data.test_dataloader())))
    assert images.shape == (2, 1, 28, 28, 28)
    expected = torch.from_numpy(arrays_of("fracturemnist3d")["test_images"])[:, None]
    assert torch.allclose(images, (expected / 255 - 0.5) / 0.5, atol=1e-6)
    assert labels.tolist() == [0, 1]


def test_medmnist3d_is_resized_and_keeps_the_middle_slice_for_the_control(written):
    data = written("nodulemnist3d", settings={"image_size": 14, "num_slices": 7})
    volume = data.splits.test.images[0, 0].float()
    source = torch.from_numpy(arrays_of("nodulemnist3d")["test_images"][0]).float()
    means = source.reshape(7, 4, 14, 2, 14, 2).mean((1, 3, 5))
    assert (volume - means).abs().max() <= 0.5
    middle = written("nodulemnist3d", settings={"slices": "middle"}).splits.test.images
    assert torch.equal(middle[0, 0].float(), source[14])


def test_medmnist3d_is_downloaded_and_verified(served, tmp_path, monkeypatch, refusal):
    address, folder = served
    monkeypatch.setattr(medmnist, "URL", f"{address}/{{file}}?download=1")
    np.savez(folder / "vesselmnist3d.npz", **arrays_of("vesselmnist3d"))
    data = create_datamodule("medmnist3d", root=tmp_path / "new", subset="vesselmnist3d")
    assert "its checksum is another" in refusal(data.prepare_data)
    md5 = hashlib.md5((folder / "vesselmnist3d.npz").read_bytes()).hexdigest()
    monkeypatch.setitem(SETS["vesselmnist3d"].md5, 28, md5)
    assert data.class_names == ["vessel", "aneurysm"]
    assert len(data.splits.val) == 3


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("medmnist", {"subset": "organmnist3d"}, "is a set of volumes; choose data=medmnist3d"),
        (
            "medmnist3d",
            {"subset": "octmnist"},
            "is a set of images; choose data=medmnist, or organ",
        ),
        (
            "medmnist3d",
            {"source_size": 128},
            "data.source_size=128 is unknown; choose one of 28, 64",
        ),
        ("medmnist3d", {"in_chans": 3}, "data.in_chans=3: MedMNIST's volumes are grey; give 1"),
        ("medmnist3d", {"num_slices": 0}, "data.num_slices=0 must be at least 1"),
    ],
)
def test_medmnist3d_refuses_what_it_has_not(refusal, name, settings, message):
    assert message in refusal(lambda: create_datamodule(name, **settings))


def test_medmnist3d_refuses_a_file_of_images(written, refusal):
    wrong = {"test_images": np.zeros((2, 28, 28), np.uint8)}
    data = written("vesselmnist3d", **wrong)
    assert "wanted uint8 (2, 28, 28, 28) as in vesselmnist3d" in refusal(lambda: data.splits)


def test_medmnist3d_refuses_labels_that_are_no_integers(written, refusal):
    data = written("vesselmnist3d", val_labels=np.full((3, 1), 0.5))
    assert "val_labels are float64; wanted whole numbers" in refusal(lambda: data.splits)


def test_sets_of_volumes_are_those_of_the_source():
    assert {name: info.num_classes for name, info in SETS.items() if info.num_axes == 3} == {
        "organmnist3d": 11,
        "nodulemnist3d": 2,
        "adrenalmnist3d": 2,
        "fracturemnist3d": 3,
        "vesselmnist3d": 2,
        "synapsemnist3d": 2,
    }
    assert not SETS["organmnist3d"].flip_keeps_class
