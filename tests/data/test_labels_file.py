"""A CSV of files and labels, and the text files that label a val folder without class folders."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from mambavision_lab.config.resolvers import register
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.labels_file import read_labels_file
from mambavision_lab.data.val_labels import read_val_labels

CSV = "file,label,split\n" + "".join(
    f"{part}{k}.png,{label},{part}\n"
    for part, num in (("train", 4), ("val", 2), ("test", 2))
    for k in range(num)
    for label in [("cat", "dog")[k % 2]]
)


@pytest.fixture
def root(tmp_path):
    """Images in one folder, of one colour each: red for a dog."""
    for part, num in (("train", 4), ("val", 2), ("test", 2)):
        for k in range(num):
            Image.new("RGB", (12, 10), (255 * (k % 2), 0, 0)).save(tmp_path / f"{part}{k}.png")
    return tmp_path


def make(root, text=CSV, **settings):
    (root / "labels.csv").write_text(text)
    options = {"labels_file": "labels.csv", "image_size": 8, "batch_size": 2, "num_workers": 0}
    return create_datamodule("image_folder", root=root, **(options | settings))


def found(data):
    splits = data.splits
    return {
        part: [(Path(path).name, label) for path, label in getattr(splits, part).items]
        for part in ("train", "val", "test")
    }


def test_labels_file_gives_class_and_split_of_each_file(root):
    data = make(root)
    assert (data.num_classes, data.class_names) == (2, ["cat", "dog"])
    assert found(data) == {
        part: [(f"{part}{k}.png", k % 2) for k in range(num)]
        for part, num in (("train", 4), ("val", 2), ("test", 2))
    }
    for images, labels, *_ in [*data.train_dataloader(), *data.val_dataloader()]:
        assert torch.equal(images[:, 0].amax((1, 2)), (255 * labels).byte())


def test_labels_file_without_splits_is_divided_by_class(root):
    rows = [f"train{k}.png,{k % 2}" for k in range(4)] + [f"val{k}.png,{k % 2}" for k in range(2)]
    data = make(root, "\n".join(["FILE, label", *rows]))
    assert data.class_names == ["0", "1"]
    parts = found(data)
    assert {name: len(part) for name, part in parts.items()} == {"train": 2, "val": 2, "test": 2}
    listed = [item for part in parts.values() for item in part]
    assert sorted(listed) == [(row.partition(",")[0], int(row[-1])) for row in rows]


def test_labels_file_takes_names_of_numbers_and_numbers_of_names(root):
    numbers = CSV.replace(",cat,", ",0,").replace(",dog,", ",1,")
    (root / "names.txt").write_text("dog\ncat\n")
    for classes in (["dog", "cat"], "names.txt"):
        data = make(root, numbers, classes=classes)
        assert data.class_names == ["dog", "cat"]
        assert found(data)["test"] == [("test0.png", 0), ("test1.png", 1)]
        assert found(make(root, CSV, classes=classes))["test"] == [
            ("test0.png", 1),
            ("test1.png", 0),
        ]


def test_labels_that_are_numbers_are_sorted_by_value(root):
    rows = "\n".join(f"train{k}.png,{label}" for k, label in enumerate([10, 9, 2, 10]))
    (root / "labels.csv").write_text(f"file,label\n{rows}")
    assert read_labels_file(str(root), "labels.csv").class_names == ["2", "9", "10"]


def test_labels_file_for_the_test_takes_the_test_rows_and_the_training_classes(root):
    data = make(root, CSV.replace("test1.png,dog", "test1.png,cat"))
    data.listing.use_all_for_test()
    assert found(data) == {"train": [], "val": [], "test": [("test0.png", 0), ("test1.png", 0)]}
    assert data.class_names == ["cat", "dog"]
    assert data.listing.describe_test() == f"of {root}/labels.csv"


def test_links_of_a_labels_file_are_followed(root):
    (root / "link.png").symlink_to(root / "test1.png")
    assert found(make(root, CSV.replace("test1", "link")))["test"][1] == ("link.png", 1)


# What is changed in the CSV -> what the message must say.
REFUSED = {
    "val1.png->gone.png": "labels.csv, row 7: {root}/gone.png is not there",
    "val1.png->.": "labels.csv, row 7: {root} is a folder",
    "file,label,split->file,class": "labels.csv, row 1: column 'class' is unknown; wanted file,label",
    "file,label,split->file;label": "labels.csv, row 1: column 'file;label' is unknown",
    "file,label,split->file,split": "labels.csv, row 1: column 'label' is missing",
    "file,label,split->file,label,label": "labels.csv, row 1: a column occurs twice",
    "val1.png,dog->val1.png,bird": "labels.csv, row 7: label 'bird' is unknown; wanted one of 2 classes",
    "val1.png,dog->val1.png,-1": "labels.csv, row 7: label -1 is below 0",
    "val1.png,dog->val1.png,2": "label '2' is unknown; wanted one of 2 classes (cat, dog, or 0 to 1)",
    "val1.png,dog->val1.png,": "labels.csv, row 7: label is empty",
    "val1.png,dog->val1.png,dog,dog": "labels.csv, row 7: has too many columns",
    "val1.png,dog,val->val1.png,dog": "labels.csv, row 7: has too few columns",
    "dog,val->dog,holdout": "labels.csv, row 7: split 'holdout' is unknown; wanted train, val, test",
    "val1.png->val0.png": "labels.csv, row 7: val0.png is the same as val0.png of row 6",
    "val1.png->./val0.png": "labels.csv, row 7: ./val0.png is the same as val0.png of row 6",
    "val1.png->link.png": "labels.csv, row 7: link.png is the same as val0.png of row 6",
    'val1.png->"val1.png': "labels.csv, row ",
    ",dog,train->,cat,train": "labels.csv: training rows are all of one class, 'cat'",
    ",train->,val": "labels.csv: training rows are absent",
}


@pytest.mark.parametrize(("change", "message"), REFUSED.items())
def test_labels_file_is_refused_by_path_and_row(root, refusal, change, message):
    (root / "link.png").symlink_to(root / "val0.png")
    changed = CSV.replace(*change.split("->"))
    assert changed != CSV
    assert message.format(root=root) in refusal(lambda: make(root, changed).splits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels_file": "gone.csv"}, "gone.csv: cannot be read"),
        ({"labels_file": "val0.png"}, "val0.png: is no text in UTF-8"),
        ({"labels_file": "empty.csv"}, "empty.csv, row 1: column 'file' is missing"),
        ({"labels_file": "head.csv"}, "head.csv: has no rows"),
        ({"classes": ["cat"]}, "data.classes=['cat']: wanted the names of two classes or more"),
        ({"classes": ["cat", "dog", "cat"]}, "data.classes=['cat', 'dog', 'cat']: has 'cat' twice"),
        ({"classes": "gone.txt"}, "gone.txt: cannot be read"),
        ({"classes": ["cat", "ant"]}, "row 3: label 'dog' is unknown"),
        ({"val_labels_file": "val.txt"}, "data.val_labels_file: data.labels_file lists the val"),
    ],
)
def test_settings_of_labels_are_refused(root, refusal, settings, message):
    (root / "empty.csv").touch()
    (root / "head.csv").write_text("file,label\n")
    assert message in refusal(lambda: make(root, **settings))
    assert "data.root=gone: no such" in refusal(lambda: read_labels_file("gone", "labels.csv"))


def test_config_counts_the_classes_of_a_labels_file(root):
    (root / "labels.csv").write_text(CSV)
    register()
    node = "${count_classes:${.root},${.labels_file},${.classes}}"
    settings = {"root": str(root), "labels_file": "labels.csv", "classes": None}
    assert OmegaConf.create({"data": settings | {"num": node}}).data.num == 2


@pytest.fixture
def flat(tmp_path, write_images):
    """A val folder without class folders beside a training folder of two classes."""
    write_images(tmp_path / "train", 10, "n01 n02")
    (tmp_path / "val" / "images").mkdir(parents=True)
    for k in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / "images" / f"v{k}.JPEG")
    return tmp_path


# The usual files of ImageNet's and Tiny ImageNet's classes.
VAL_LABELS = {
    "numbers": "v0.JPEG 1\nv1.JPEG 0\nv2.JPEG 0\nv3.JPEG 1\n",
    "synsets": "v3.JPEG n02\nv1.JPEG n01\nv2.JPEG n01\nv0.JPEG n02\n",
    "synsets by order": "n02\nn01\nn01\nn02\n\n",
    "boxes": "".join(f"v{k}.JPEG\tn0{n}\t0\t32\t44\t62\n" for k, n in enumerate([2, 1, 1, 2])),
    "kaggle": "ImageId,PredictionString\nv3,n02 85 1 499 272 \nv0,n02 1 1 9 9\nv1,n01 \nv2,n01\n",
    "paths": "".join(f"val/images/v{k}.JPEG,n0{n}\n" for k, n in enumerate([2, 1, 1, 2])),
}


@pytest.mark.parametrize("name", ["image_folder", "imagenet"])
@pytest.mark.parametrize("text", VAL_LABELS.values(), ids=VAL_LABELS)
def test_val_folder_without_classes_takes_them_from_a_file(flat, name, text):
    (flat / "val" / "labels.txt").write_text(text)
    options = {"num_classes": 2} if name == "imagenet" else {}
    data = create_datamodule(name, root=flat, val_labels_file="val/labels.txt", **options)
    part = "test" if name == "imagenet" else "val"  # ImageNet's results are those on val
    assert found(data)[part] == [("v0.JPEG", 1), ("v1.JPEG", 0), ("v2.JPEG", 0), ("v3.JPEG", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v0.JPEG 1\nv9.JPEG 1\n", "labels.txt, row 2: v9.JPEG is not there"),
        (
            "v0.JPEG 1\nv1.JPEG 2\n",
            "labels.txt, row 2: label '2' is unknown; wanted one of 2 classes",
        ),
        ("v0.JPEG 1\nv1.JPEG\n", "labels.txt, row 2: label '' is unknown"),
        ("v0.JPEG 1\nv0.JPEG 1\n", "labels.txt, row 2: v0.JPEG has a row already"),
        ("v0.JPEG 1\nv1.JPEG 1\n", "labels.txt: has no row for 2 of 4 images, such as"),
        ("n01\nn02\n", "labels.txt: has 2 rows, but"),
        ("1\n2\n2\n1\n", "labels.txt, row 1: '1' is no training class; wanted names of classes"),
        ("", "labels.txt: has 0 rows, but"),
    ],
)
def test_val_labels_are_refused_by_path_and_row(flat, refusal, text, message):
    (flat / "labels.txt").write_text(text)
    data = create_datamodule("image_folder", root=flat, val_labels_file="labels.txt")
    assert message in refusal(lambda: data.splits)


def test_val_folder_alone_is_tested_with_classes_that_are_given(flat):
    (flat / "classes.txt").write_text("n01\nn02\n")
    (flat / "train").rename(flat.parent / "elsewhere")
    (flat / "labels.txt").write_text(VAL_LABELS["synsets by order"])
    options = {"val_labels_file": "labels.txt", "classes": "classes.txt"}
    data = create_datamodule("image_folder", root=flat, **options)
    data.listing.use_all_for_test()
    assert [label for _, label in found(data)["test"]] == [1, 0, 0, 1]


def test_val_labels_by_order_are_those_of_the_sorted_files(tmp_path):
    (tmp_path / "labels.txt").write_text("b\na\n")
    files = ["/v/2.png", "/v/1.png"]
    items = read_val_labels(tmp_path, tmp_path / "labels.txt", ["a", "b"], files)
    assert items == [("/v/1.png", 1), ("/v/2.png", 0)]


@pytest.mark.parametrize(
    "text",
    [
        "1.png flying disc\n\n2.png ant\n",
        '"1.png","flying disc"\n\n"2.png",ant,3\n',
        "flying disc\nant\n",
    ],
)
def test_val_labels_take_blank_lines_quotes_and_names_of_several_words(tmp_path, text):
    (tmp_path / "labels.txt").write_text(text)
    files = ["/v/1.png", "/v/2.png"]
    items = read_val_labels(tmp_path, tmp_path / "labels.txt", ["ant", "flying disc"], files)
    assert items == [("/v/1.png", 1), ("/v/2.png", 0)]


def test_val_labels_without_a_val_folder_are_refused(flat, refusal):
    (flat / "val").rename(flat.parent / f"{flat.name}_val")
    data = create_datamodule("image_folder", root=flat, val_labels_file="labels.txt")
    message = refusal(lambda: data.splits)
    assert message.startswith("data.val_labels_file=labels.txt: ")
    assert "has no val folder" in message
