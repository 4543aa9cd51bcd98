import sys
from collections import Counter

import numpy as np
import pytest

from mambavision_lab.data.digits import DigitsDataModule


def make(**settings):
    defaults = {"image_size": 8, "in_chans": 1, "num_classes": 10, "mean": [0.5], "std": [0.25]}
    return DigitsDataModule(**(defaults | settings))


@pytest.fixture
def digits():
    return pytest.importorskip("sklearn.datasets").load_digits()


def test_digits_splits_hold_every_image_once(digits, image_counts):
    counts = image_counts(make().splits)
    scaled = np.round(digits.images * 255 / 16).astype(np.uint8)
    assert sum(counts.values(), Counter()) == Counter(image.tobytes() for image in scaled)
    assert [count.total() for count in counts.values()] == [1295, 143, 359]
    assert len(set().union(*counts.values())) == 1797  # no digit is there twice


def test_digits_labels_belong_to_their_images(digits):
    label_of = {
        np.round(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    splits = make().splits
    assert splits.class_names == list("0123456789")
    for part in (splits.train, splits.val, splits.test):
        for image, label in zip(part.images, part.labels, strict=True):
            assert label_of[image.numpy().tobytes()] == label


def test_digits_seed_fixes_the_splits(digits, image_counts):
    first, again, other = (image_counts(make(seed=seed).splits) for seed in (0, 0, 1))
    assert first == again
    assert first["test"] != other["test"]


def test_digits_config_states_mean_and_std_of_its_images(digits, stated, measured):
    data = make(**stated("digits"))
    for name, values in measured(data).items():
        assert values.tolist() == pytest.approx(getattr(data, name), abs=0.02), name


def test_digits_without_sklearn_names_the_extra(monkeypatch, refusal):
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "mambavision-lab[digits]" in refusal(lambda: make().splits)
