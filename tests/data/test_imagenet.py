from pathlib import Path

from mambavision_lab.data.imagenet import ImageNetDataModule


def test_imagenet_tests_on_val_and_validates_on_a_part_of_train(tmp_path, write_images):
    write_images(tmp_path / "train", 20, "n01440764 n01443537", suffix="jpg")
    write_images(tmp_path / "val", 3, "n01440764 n01443537", suffix="jpg")
    write_images(tmp_path / "test", 1, "n01440764")  # the official test images have no labels
    settings = {"image_size": 8, "in_chans": 3, "num_classes": 2, "mean": [0.5], "std": [0.25]}
    splits = ImageNetDataModule(root=str(tmp_path), val_fraction=0.1, **settings).splits
    parts = {
        name: [Path(path).relative_to(tmp_path).parts[0] for path, _ in part.items]
        for name, part in (("train", splits.train), ("val", splits.val), ("test", splits.test))
    }
    assert parts == {"train": ["train"] * 36, "val": ["train"] * 4, "test": ["val"] * 6}
    assert not set(splits.train.items) & set(splits.val.items)
    assert splits.class_names == ["n01440764", "n01443537"]
