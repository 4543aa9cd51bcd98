from pathlib import Path

import pytest
from PIL import Image

from mambavision_lab.data.class_folders import (
    ImageLister,
    class_folder,
    count_classes,
    list_classes,
)
from mambavision_lab.data.folders import IMAGE_SUFFIXES


@pytest.fixture
def touch(tmp_path):
    """Make empty files below tmp_path, and their folders."""

    def call(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return call


def listed(root, folder="", classes=("a", "b")):
    """List (path below root, label), and the notes."""
    lister = ImageLister(list(classes))
    items = lister.images_in(root / folder)
    lister.refuse_repeated()
    return [(Path(p).relative_to(root).as_posix(), label) for p, label in items], lister.notes


def test_image_suffixes_are_those_of_files_that_pillow_reads():
    Image.init()
    readable = {s for s, name in Image.registered_extensions().items() if name in Image.OPEN}
    assert set(IMAGE_SUFFIXES) <= {*readable, ".mpo"}  # an MPO is opened as a JPEG


@pytest.mark.parametrize("prefix", ["train/", "Training/", ""])
def test_class_folders_are_counted_in_train_or_in_root(tmp_path, prefix):
    for name in ("b", "a10", "a9", ".cache", "__MACOSX"):
        (tmp_path / f"{prefix}{name}").mkdir(parents=True)
    (tmp_path / f"{prefix}readme.txt").touch()
    assert class_folder(tmp_path) == tmp_path / prefix
    assert list_classes(tmp_path / prefix) == ["a10", "a9", "b"]
    assert count_classes(str(tmp_path)) == 3


def test_class_folders_list_every_image_and_count_the_rest(touch):
    wanted = "a/1.JPG a/2.jfif a/3.jpe a/4.avif a/5.jp2 a/6.mpo a/7.tga a/deep/er/8.png b/0.webp b/1.tiff"
    leftovers = (
        "a/.hidden.png a/.thumbs/1.png a/__MACOSX/1.png a/Thumbs.db b/desktop.ini b/.DS_Store"
    )
    others = "a/notes.txt a/9.heic b/10.HEIC b/png 0.png"
    root = touch(*f"{wanted} {leftovers} {others}".split())
    items, notes = listed(root)
    assert items == [(name, "ab".index(name[0])) for name in wanted.split()]
    assert notes == [
        f"{root}: not read as images: 2 .heic, 1 .txt, 1 without suffix",
        f"{root}: 1 image in no class folder, not used",
    ]


def test_class_folders_of_a_part_keep_the_labels_of_the_training_classes(touch):
    items, notes = listed(touch("cat/0.png"), classes=["ant", "bee", "cat"])
    assert items == [("cat/0.png", 2)]
    (note,) = notes
    assert note.endswith("has no images of 2 of 3 classes: ant, bee")


def test_class_folders_note_that_images_lie_one_level_below(touch):
    root = touch("a/x/0.png", "b/x/0.png")
    (note,) = listed(root)[1]
    assert f"give data.root={root / 'a'}" in note


def test_class_folders_refuse_what_holds_no_classes(tmp_path, refusal):
    assert f"data.root={tmp_path / 'no'}" in refusal(lambda: class_folder(tmp_path / "no"))
    (tmp_path / "file").touch()
    assert f"data.root={tmp_path / 'file'}: is a file" in refusal(
        lambda: count_classes(tmp_path / "file")
    )
    assert str(tmp_path) in refusal(lambda: count_classes(tmp_path))
    (tmp_path / "0.png").touch()
    assert "but 1 image: is this a class" in refusal(lambda: count_classes(tmp_path))
    (tmp_path / "train").mkdir()
    assert str(tmp_path / "train") in refusal(lambda: count_classes(tmp_path))


# Files -> what the refusal advises, below the root.
SINGLE = {
    "pets/cat/0.png pets/dog/0.png": "did you mean data.root={root}/pets?",
    "a/b/train/cat/0.png a/b/test/cat/0.png": "did you mean data.root={root}/a/b?",
    "pets/train/cat/0.png": "did you mean data.root={root}/pets?",
    "train/train/cat/0.png train/train/dog/0.png": "did you mean data.root={root}/train/train?",
    "cat/0.png": "add class folders",
}


@pytest.mark.parametrize("files", SINGLE)
def test_class_folders_refuse_one_class_with_the_root_to_give(touch, refusal, files):
    root = touch(*files.split())
    message = refusal(lambda: count_classes(root))
    assert "one class only" in message
    assert SINGLE[files].format(root=root) in message


def test_class_folders_refuse_data_sets_as_classes(touch, refusal):
    root = touch("cars/train/x/0.png", "cars/val/x/0.png", "pets/train/x/0.png")
    assert f"data.root={root / 'cars'}" in refusal(lambda: listed(root, classes=("cars", "pets")))


def test_class_folders_follow_links_to_folders_and_files(touch, tmp_path):
    touch("store/bees/0.png", "store/blob", "data/a/0.png")
    (tmp_path / "data/b").symlink_to(tmp_path / "store/bees")
    (tmp_path / "data/a/1.png").symlink_to(tmp_path / "store/blob")
    assert listed(tmp_path, "data")[0] == [
        ("data/a/0.png", 0),
        ("data/a/1.png", 0),
        ("data/b/0.png", 1),
    ]


# Link -> its target: what would multiply images or mix labels.
LINKS = {
    "a/up": "..",
    "a/self": ".",
    "a/deep/top": "../../..",
    "a/other": "../b",
    "c": "a",
    "a/1.png": "0.png",
    "b/1.png": "../a/0.png",
    "a/none.png": "missing.png",
    "none": "missing",
}


@pytest.mark.parametrize("link", LINKS)
def test_class_folders_refuse_links_that_repeat_images(touch, refusal, link):
    root = touch("a/0.png", "a/deep/2.png", "b/0.png")
    (root / link).symlink_to(LINKS[link])
    assert f"{root / link}" in refusal(lambda: listed(root, classes=("a", "b", "c")))


def test_class_folders_refuse_a_split_that_links_into_another(touch, refusal):
    root = touch("train/a/0.png", "val/a/1.png")
    (root / "val/a/0.png").symlink_to(root / "train/a/0.png")
    lister = ImageLister(["a"])
    for split in ("train", "val"):
        lister.images_in(root / split)
    assert str(root / "val/a/0.png") in refusal(lister.refuse_repeated)


def test_class_folders_name_the_suffixes_of_a_class_without_images(touch, refusal):
    root = touch("a/0.heic", "a/1.heic", "b/0.png")
    message = f"{root}/a: holds no images, but 2 .heic; convert them, add some or remove the folder"
    assert message in refusal(lambda: listed(root))
    assert message in refusal(lambda: count_classes(root))  # so that a check finds it, too


def test_classes_of_volumes_are_counted_beside_folders_of_images(touch, refusal):
    root = touch("train/a/0.nii.gz", "train/b/0.nii.gz", "val/a/1.npy", "previews/0.png")
    assert count_classes(root, None, None, "volumes") == 2
    assert "previews/ holds images beside" in refusal(lambda: count_classes(root))
