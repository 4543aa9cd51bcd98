"""Images of any number of classes each, from the column labels of a CSV."""

import pytest
import torch
from PIL import Image

from mambavision_lab.analysis.augmented_batches import choose_images, describe_label
from mambavision_lab.analysis.image_statistics import count_classes
from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.mixing import Mixing
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.labels_file import has_several_labels
from mambavision_lab.data.splits import hold_out_missing

LABELS = ["cat;dog", "dog|ape", "", " ape ; cat;cat"]
CLASSES = ["ape", "cat", "dog"]
MULTI_HOT = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 0]])


@pytest.fixture
def make(tmp_path):
    """Write four images, each in train, val and test, and their CSV; returns the data module."""

    def call(labels=LABELS, header="file,Labels,split", **settings):
        rows = [header]
        for part in ("train", "val", "test"):
            for k, text in enumerate(labels):
                Image.new("RGB", (8, 8), (60 * k, 0, 0)).save(tmp_path / f"{part}{k}.png")
                rows.append(f"{part}{k}.png,{text},{part}")
        (tmp_path / "labels.csv").write_text("\n".join(rows))
        options = {"labels_file": "labels.csv", "image_size": 8, "batch_size": 4, "num_workers": 0}
        return create_datamodule("image_folder", root=tmp_path, **(options | settings))

    return call


def test_several_labels_are_given_as_0_or_1_for_each_class(make):
    data = make()
    assert (data.is_multilabel, data.class_names) == (True, CLASSES)
    assert data.metadata()["is_multilabel"] is True
    (batch,) = data.val_dataloader()
    _, labels = data.prepare_batch(batch)
    assert torch.equal(labels, MULTI_HOT)
    assert labels.dtype == torch.int64
    assert torch.equal(data.train_labels(), MULTI_HOT)
    (batch,) = data.train_dataloader()
    images, labels = data.prepare_batch(batch, is_training=True)
    order = torch.tensor(data.mean[0]) + images[:, 0, 0, 0] * data.std[0]
    assert torch.equal(labels, MULTI_HOT[(order * 255 / 60).round().long()])


def test_several_labels_are_numbered_by_the_classes_of_a_network(make):
    data = make()
    data.use_classes(["dog", "cow", "cat", "ape"])
    (batch,) = data.val_dataloader()
    _, labels = data.prepare_batch(batch)
    assert torch.equal(labels[:, [3, 2, 0]], MULTI_HOT)
    assert not labels[:, 1].any()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"sampler": "balanced"}, "data.sampler=balanced: an image of several classes"),
        ({"is_multilabel": False}, "labels.csv has the column labels; leave data.is_multilabel"),
        ({"classes": ["cat", "dog"]}, "row 3: label 'ape' is unknown; wanted one of 2 classes"),
        ({"labels": ["cat;-1", "dog"]}, "row 2: label -1 is below 0"),
        ({"labels": ["cat", "cat;cat", ""]}, "training rows are all of one class, 'cat'"),
        ({"header": "file,labels,label"}, "row 1: column 'label' is unknown"),
    ],
    ids=str,
)
def test_several_labels_are_refused_by_one_line(make, refusal, options, wanted):
    message = refusal(lambda: make(**options).splits)
    assert wanted in message
    assert "\n" not in message


def test_column_label_is_taken_for_one_class(make, tmp_path):
    data = make(["cat", "dog"], header="file,label,split")
    assert not data.is_multilabel
    assert not has_several_labels(str(tmp_path), None)
    (batch,) = data.val_dataloader()
    assert torch.equal(batch[1], torch.tensor([0, 1]))


def test_several_labels_are_held_out_by_the_rarest_class():
    train = [(f"{k}", (0, 1) if k < 8 else (0,)) for k in range(40)] + [("none", ()), ("", ())]
    filled = hold_out_missing({"train": train}, 0.25, 0, "here")
    counts = {
        split: (len(items), sum(1 in label for _, label in items))
        for split, items in filled.items()
    }
    # A quarter of the eight, of the 32 others and, at least one, of the two without a class; then val.
    assert counts == {"train": (23, 4), "test": (11, 2), "val": (8, 2)}


@pytest.mark.parametrize("per_image", [False, True])
def test_mixing_shares_several_labels_as_it_shares_one(per_image):
    images = torch.arange(4.0).reshape(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    mixing = Mixing(mixup=0.8, cutmix=1.0, per_image=per_image)
    draws = [Draws(0, 0, torch.arange(4)) for _ in range(3)]
    one = torch.tensor([2, 0, 1, 2])
    mixed, expected = mixing(images, one, 3, draws[0])
    same, shares = mixing(images, torch.eye(3).long()[one], 3, draws[1])
    assert torch.equal(mixed, same)
    torch.testing.assert_close(shares, expected)
    _, several = mixing(images, MULTI_HOT, 3, draws[2])
    _, matrix = mixing(images, torch.arange(4), 4, Draws(0, 0, torch.arange(4)))
    torch.testing.assert_close(several, matrix @ MULTI_HOT.float())


def test_several_labels_are_counted_and_named(make):
    data = make()
    assert count_classes(data, [])["ape"] == {"train": 2, "val": 2, "test": 2}
    assert describe_label(MULTI_HOT[0], CLASSES) == "cat\ndog"
    assert describe_label(MULTI_HOT[2], CLASSES) == "none"
    assert describe_label(torch.tensor([0.0, 0.3, 0.0]), CLASSES) == "cat 0.30"
    labels = dict(enumerate(label for _, label in data.splits.train.items))
    assert sorted(choose_images(labels, 4, seed=0)) == [0, 1, 2, 3]
