import pytest

from mambavision_lab.data.class_folders import count_classes
from mambavision_lab.data.split_folders import find_splits, siblings_of_split


@pytest.fixture
def layout(tmp_path):
    """Make one image in each folder of a list, below tmp_path."""

    def make(folders):
        for name in folders.split():
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "0.png").touch()
        return tmp_path

    return make


# Folders with an image each -> split: folder.
UNDERSTOOD = {
    "train/a val/a test/a": {"train": "train", "val": "val", "test": "test"},
    "Train/a Test/a": {"train": "Train", "test": "Test"},
    "training/a testing/a": {"train": "training", "test": "testing"},
    "TRAIN/a VALID/a": {"train": "TRAIN", "val": "VALID"},
    "train/a Validation/a": {"train": "train", "val": "Validation"},
    "train/a dev/a": {"train": "train", "val": "dev"},
    "train/a __MACOSX/train/a .git/a": {"train": "train"},
    "test/a": {"test": "test"},
    "a b": {},
    "bus car train": {},  # vehicles
    "train_station valley trainer test_tube": {},
}


@pytest.mark.parametrize("folders", UNDERSTOOD)
def test_split_folders_are_found_by_their_usual_names(layout, folders):
    root = layout(folders)
    assert find_splits(root) == {s: root / name for s, name in UNDERSTOOD[folders].items()}


# Folders with an image each -> the folder that the message names.
REFUSED = {
    "train/a val/a valid/a": "val and valid are both",
    "train/a Train/a": "Train and train are both",
    "train/a holdout/a": "holdout/ holds images beside train/",
    "train/a val_old/a": "val_old/ holds images",
    "a b test/a": "a/ holds images beside test/",
    "training_set/a test_set/a": "test_set/ seems to be a split",
    "seg_train/a seg_test/a labels": "seg_test/ seems to be a split",
    "train2017 val2017": "train2017/ seems to be a split",
}


@pytest.mark.parametrize("folders", REFUSED)
def test_split_folders_that_are_unclear_are_refused(layout, refusal, folders):
    root = layout(folders)
    message = refusal(lambda: count_classes(root))
    assert message.startswith(f"data.root={root}: {REFUSED[folders]}")


def test_split_folders_may_lie_beside_folders_without_images(layout):
    root = layout("train/a train/b")
    (root / "annotations").mkdir()
    (root / "annotations" / "0.xml").touch()
    assert find_splits(root) == {"train": root / "train"}


def test_split_folder_as_root_knows_its_siblings(layout):
    root = layout("train/a val/a")
    assert siblings_of_split(root / "train") == [root / "val"]
    assert siblings_of_split(root / "train" / "a") == siblings_of_split(root) == []
