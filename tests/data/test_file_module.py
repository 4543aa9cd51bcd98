"""Ranges of values, backgrounds and damaged files of data modules that read files."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_bytes import pgm
from PIL import Image

from mambavision_lab.data.image_folder import ImageFolderDataModule

CLASSES = ["ant", "bee"]


def make(root, **settings):
    defaults = {"image_size": 8, "in_chans": 1, "num_classes": 2, "mean": [0.5], "std": [0.25]}
    return ImageFolderDataModule(root=str(root), **(defaults | settings))


@pytest.fixture
def write_values(tmp_path):
    """Write images of one value each into train, val and test; ant's are the lower ones."""

    def write(ant, bee, dtype=np.uint16, suffix="tif"):
        for part in ("train", "val", "test"):
            for name, value in zip(CLASSES, (ant, bee), strict=True):
                (tmp_path / part / name).mkdir(parents=True)
                image = Image.fromarray(np.full((8, 8), value, dtype))
                image.save(tmp_path / part / name / f"0.{suffix}")
        return tmp_path

    return write


@pytest.fixture
def write_damaged(write_images, tmp_path):
    """Write five images a class into train, val and test, of which four are damaged."""
    for part in ("train", "val", "test"):
        write_images(tmp_path / part, 5, "ant bee", suffix="jpg")
    damaged = ["train/ant/1.jpg", "train/bee/4.jpg", "val/ant/0.jpg", "test/bee/2.jpg"]
    for k, name in enumerate(damaged):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[:-200] if k % 2 else b"")
    return tmp_path, {str(tmp_path / name) for name in damaged}


def levels(data):
    """The grey levels that ant's and bee's images have in each split."""
    splits = data.splits
    return [
        [int(split[i][0].unique()) for i in range(2)]
        for split in (splits.train, splits.val, splits.test)
    ]


@pytest.mark.parametrize(
    ("value_range", "ant", "bee", "dtype", "stored", "expected"),
    [
        ("auto", 7000, 7500, np.uint16, [7000, 7500], [0, 255]),
        ("auto", 20.5, 21.5, np.float32, [20.5, 21.5], [0, 255]),
        ("auto", -5, 5, np.int32, [-5, 5], [0, 255]),
        ("auto", 700, 700, np.uint16, None, [3, 3]),
        ("bits", 0, 32896, np.uint16, None, [0, 128]),
        (12, 0, 2048, np.uint16, [0, 4095], [0, 128]),
        ([1000, 3000], 2000, 4000, np.uint16, [1000, 3000], [128, 255]),
        ("auto", 10, 200, np.uint8, None, [10, 200]),
        ([0, 20], 10, 200, np.uint8, [0, 20], [10, 200]),
    ],
)
def test_range_of_values_is_measured_given_or_that_of_the_file(
    write_values, value_range, ant, bee, dtype, stored, expected
):
    data = make(write_values(ant, bee, dtype), value_range=value_range)
    assert levels(data) == [expected] * 3
    assert data.metadata()["value_range"] == stored


def test_range_of_values_is_that_of_the_files_where_each_states_it(write_values):
    root = write_values(0, 0)
    for path in root.rglob("*.tif"):
        value = 256 if path.parent.name == "ant" else 512
        path.with_suffix(".pgm").write_bytes(pgm([value], 1023))
        path.unlink()
    data = make(root)
    assert levels(data) == [[64, 128]] * 3
    assert data.metadata()["value_range"] is None


def test_range_of_values_of_a_training_is_used_and_not_measured_again(write_values):
    root = write_values(0, 500)
    data = make(root)
    data.use_preprocessing({"value_range": [0.0, 1000.0]})
    assert levels(data) == [[0, 128]] * 3
    data = make(root)
    data.use_preprocessing({})  # an older checkpoint: all 16 bits
    assert levels(data) == [[0, 2]] * 3
    data = make(root, value_range=[0, 250])
    data.use_preprocessing({"value_range": [0.0, 1000.0]})
    assert levels(data) == [[0, 255]] * 3


@pytest.mark.parametrize(
    ("high", "value_range", "warns"),
    [(3900, "bits", True), (4200, "bits", False), (3900, "auto", False)],
)
def test_check_warns_where_nothing_fills_a_sixteenth_of_the_range(
    write_values, caplog, high, value_range, warns
):
    root = write_values(0, high)
    assert make(root, value_range=value_range).find_bad_images() == {}
    assert ("no image fills a sixteenth" in caplog.text) == warns


def test_check_warns_of_an_outlier_that_stretches_the_range(write_values, caplog):
    root = write_values(7000, 7500)
    values = np.full((64, 64), 7000, np.uint16)
    values[3, 3] = 65535
    Image.fromarray(values).save(root / "train" / "ant" / "0.tif")
    assert make(root).find_bad_images() == {}
    assert "([7000.0, 65535.0])" in caplog.text


@pytest.mark.parametrize(("given", "stored"), [(9, [9, 9, 9]), ([1, 2, 3], [1, 2, 3])])
def test_background_is_below_transparent_pixels_and_stored(tmp_path, given, stored):
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGBA", (8, 8), (200, 200, 200, 0)).save(tmp_path / name / f"{i}.png")
    data = make(tmp_path, background=given, in_chans=3)
    for split in (data.splits.train, data.splits.val, data.splits.test):
        assert split[0][0][:, 4, 4].tolist() == stored
    assert data.metadata()["background"] == stored


def test_crop_fraction_is_that_of_evaluation_and_stored(tmp_path):
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for i in range(3):
            framed = Image.new("L", (10, 10))
            framed.paste(255, (1, 1, 9, 9))
            framed.save(tmp_path / name / f"{i}.png")
    data = make(tmp_path, image_size=8, crop_fraction=0.8)
    assert data.splits.test[0][0].min() == 255  # the frame is cut off
    assert data.metadata()["crop_fraction"] == 0.8


def test_check_lists_all_damaged_files_before_training(write_damaged, caplog, refusal):
    root, damaged = write_damaged
    data = make(root)
    message = refusal(data.prepare_data)
    assert f"data.root={root}: 4 of the image files cannot be read" in message
    assert "data.on_bad_image=skip" in message
    assert {record.getMessage().partition(": ")[0] for record in caplog.records[1:]} == damaged
    assert set(make(root).find_bad_images()) == damaged
    make(root, check_files=False).prepare_data()


@pytest.mark.parametrize(
    ("is_training", "world_size", "checks"), [(True, 1, True), (True, 2, False), (False, 1, False)]
)
def test_check_runs_once_before_a_training(write_damaged, refusal, is_training, world_size, checks):
    data = make(write_damaged[0])
    data.trainer = SimpleNamespace(training=is_training, world_size=world_size)
    if checks:
        assert "cannot be read" in refusal(data.prepare_data)
    data.prepare_data()


def test_damaged_files_are_skipped_counted_and_listed(write_damaged, caplog):
    root, damaged = write_damaged
    data = make(root, on_bad_image="skip", batch_size=4)
    data.prepare_data()
    splits = data.splits
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [8, 9, 9]
    assert set(data.skipped) == damaged
    batches = list(data.train_dataloader())
    assert [len(labels) for _, labels, _ in batches] == [4, 4]
    assert torch.cat([labels for _, labels, _ in batches]).bincount().tolist() == [4, 4]
    caplog.clear()
    data.teardown("fit")
    assert caplog.records[0].getMessage() == "4 of the image files cannot be read, skipped:"
    assert all(path in caplog.text for path in damaged)
    assert caplog.records[0].levelno == logging.WARNING


def test_skipping_refuses_a_split_of_which_nothing_is_left(write_values, refusal):
    root = write_values(0, 1)
    for path in (root / "val").rglob("*.tif"):
        path.write_bytes(b"")
    message = refusal(lambda: make(root, on_bad_image="skip").splits)
    assert "none of the val images can be read" in message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("value_range", value) for value in ("all", [3], [5, 5], [1, "a"], 0, 33, True)),
        *(("crop_fraction", value) for value in (0.0, 1.1)),
        *(("background", value) for value in (256, -1, [1, 2], "white", [0.5] * 3)),
        ("on_bad_image", "ignore"),
    ],
)
def test_impossible_settings_of_files_are_refused(tmp_path, refusal, setting, value):
    assert f"data.{setting}=" in refusal(lambda: make(tmp_path, **{setting: value}))


def test_skipping_without_a_check_is_refused(tmp_path, refusal):
    settings = {"on_bad_image": "skip", "check_files": False}
    assert "data.check_files=true" in refusal(lambda: make(tmp_path, **settings))
