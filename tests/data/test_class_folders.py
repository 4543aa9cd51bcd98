from pathlib import Path

import pytest

from mambavision_lab.data.class_folders import (
    count_classes,
    list_classes,
    list_images,
    training_folder,
)


@pytest.mark.parametrize("prefix", ["train/", ""])
def test_class_folders_are_counted_in_train_or_in_root(tmp_path, prefix):
    for name in ("b", "a10", "a9", ".cache"):
        (tmp_path / f"{prefix}{name}").mkdir(parents=True)
    (tmp_path / f"{prefix}readme.txt").touch()
    assert training_folder(tmp_path) == tmp_path / prefix
    assert list_classes(tmp_path / prefix) == ["a10", "a9", "b"]
    assert count_classes(str(tmp_path)) == 3


def test_class_folders_list_every_image_and_nothing_else(tmp_path):
    wanted = ["a/1.JPG", "a/deep/er/2.png", "b/0.webp", "b/1.tiff"]
    for name in [*wanted, "a/.hidden.png", "a/notes.txt", "b/png", "0.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    paths, labels = zip(*list_images(tmp_path, ["a", "b"]), strict=True)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in paths] == wanted
    assert labels == (0, 0, 1, 1)


def test_class_folders_of_a_part_keep_the_labels_of_the_training_classes(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").touch()
    assert list_images(tmp_path, ["ant", "bee", "cat"]) == [(str(tmp_path / "cat" / "0.png"), 2)]


def test_class_folders_refuse_what_holds_no_classes(tmp_path, refusal):
    assert f"data.root={tmp_path / 'no'}" in refusal(lambda: training_folder(tmp_path / "no"))
    (tmp_path / "file").touch()
    assert f"data.root={tmp_path / 'file'}" in refusal(lambda: count_classes(tmp_path / "file"))
    assert str(tmp_path) in refusal(lambda: count_classes(tmp_path))
    (tmp_path / "train").mkdir()
    assert str(tmp_path / "train") in refusal(lambda: count_classes(tmp_path))
