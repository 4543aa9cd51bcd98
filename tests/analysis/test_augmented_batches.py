"""The images of a preview: which are chosen, how they are augmented, and what is written below them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mambavision_lab import create_datamodule
from mambavision_lab.analysis.augmented_batches import (
    augment,
    choose_images,
    describe_label,
    draw,
)

NAMES = ["shirt", "bag", "a_name_that_is_far_too_long_for_a_tile", "$x_1$"]


class Invert(nn.Module):
    """An augmentation that is easily recognised."""

    crop_scale = policy = mixing = None

    def forward(self, images, *_):
        return 1 - images


@pytest.fixture
def data():
    options = {"num_train": 40, "num_val": 4, "num_test": 4, "num_classes": 4, "image_size": 12}
    return create_datamodule("synthetic", augment=Invert(), mean=[0.4], std=[0.3], **options)


def test_chosen_images_are_of_as_many_classes_as_possible():
    labels = dict(enumerate([0] * 50 + [1] * 2 + [2] * 5))
    chosen = choose_images(labels, 6, seed=0)
    assert [labels[i] for i in chosen] == [0, 0, 1, 1, 2, 2]
    assert len(set(chosen)) == 6
    assert choose_images(labels, 6, seed=1) != chosen
    of_many = choose_images({i: i % 100 for i in range(1000)}, 5, seed=0)
    assert [i % 100 for i in of_many] == [0, 25, 50, 74, 99]
    assert len(choose_images({3: 0, 4: 1}, 8, seed=0)) == 2


def test_images_of_each_epoch_are_those_chosen_augmented_and_without_normalization(data):
    indices = [7, 0, 31, 2]
    batches = augment(data, indices, num_epochs=2)
    originals = data.splits.train.images[indices]
    assert torch.equal(torch.stack(batches.originals), originals)
    assert batches.labels == data.splits.train.labels[indices].tolist()
    assert len(batches.epochs) == 2
    for images, labels in batches.epochs:
        torch.testing.assert_close(images, 1 - originals / 255)
        assert labels.tolist() == batches.labels


def test_image_files_are_shown_in_their_own_size_and_augmented_in_the_networks(tmp_path):
    for part in ("train", "val", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (30, 20), 51).save(tmp_path / part / name / "1.png")
    data = create_datamodule("image_folder", root=tmp_path, image_size=8, augment=Invert())
    batches = augment(data, [0, 1], num_epochs=1)
    assert [image.shape for image in batches.originals] == [(3, 20, 30)] * 2
    ((images, labels),) = batches.epochs
    torch.testing.assert_close(images, torch.full((2, 3, 8, 8), 0.8))
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (torch.tensor(1), "bag"),
        (torch.tensor([0.0, 1.0, 0, 0]), "bag"),
        (torch.tensor([0.7, 0.3, 0, 0]), "shirt 0.70\n+ bag 0.30"),
        (torch.tensor([0.25, 0.747, 0.003, 0]), "bag 0.75\n+ shirt 0.25"),
        (torch.tensor([0, 0, 0.6, 0.4]), "a_name_that_is…  0.60\n+ $x_1$ 0.40".replace("  ", " ")),
    ],
)
def test_label_names_the_classes_and_their_shares(label, expected):
    assert describe_label(label, NAMES) == expected


@pytest.mark.parametrize("in_chans", [1, 2, 3])
def test_picture_shows_images_of_any_channels_and_soft_labels(data, tmp_path, in_chans):
    options = {"num_train": 8, "num_val": 4, "num_test": 4, "num_classes": 4, "image_size": 12}
    data = create_datamodule("synthetic", in_chans=in_chans, **options)
    batches = augment(data, [0, 1], num_epochs=1)
    images, labels = batches.epochs[0]
    batches.epochs[0] = (images, nn.functional.one_hot(labels, 4) * 0.7 + 0.1)
    draw(batches, NAMES, "a $ title", tmp_path / "preview.png")
    with Image.open(tmp_path / "preview.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.std() > 40
    assert pixels[0, 0] == 255
