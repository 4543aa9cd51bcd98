"""Statistics of images in memory and of image files, against values worked out here."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from volume_bytes import ramp, write_nifti

from mambavision_lab import create_datamodule
from mambavision_lab.analysis.image_statistics import describe, scan_images


@pytest.fixture
def synthetic():
    return create_datamodule("synthetic", num_train=33, num_val=7, num_test=9, num_classes=3)


def write(path: Path, size: tuple[int, int], colour: object = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def describe_folder(root: Path, num_scanned: int | None = None, **options):
    data = create_datamodule("image_folder", root=root, **{"image_size": 8, **options})
    return describe(data, scan_images(data, num_scanned))


def test_mean_and_std_in_memory_are_those_of_all_training_pixels(synthetic):
    found = describe(synthetic, scan_images(synthetic, None))
    pixels = synthetic.splits.train.images.double() / 255
    assert found["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert found["std"] == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-4)
    assert found["scanned"] == 49
    assert found["modes"] == {"3 channels in memory": 49}


def test_mean_and_std_of_files_are_those_of_what_the_network_sees(tmp_path):
    generator = np.random.default_rng(0)
    for name in "ab":
        for i in range(5):
            pixels = generator.integers(0, 256, (10 + i, 14, 3), dtype=np.uint8)
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{i}.png")
        write(tmp_path / "val" / name / "1.png", (9, 9))
        write(tmp_path / "test" / name / "1.png", (9, 9))
    data = create_datamodule("image_folder", root=tmp_path, image_size=8)  # without random crops
    found = describe(data, scan_images(data, None))
    pixels = torch.stack([image for image, _ in data.splits.train]).double() / 255
    assert found["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert found["std"] == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-4)


def test_sizes_modes_and_classes_of_files_are_counted(tmp_path):
    for name, num in (("a", 3), ("b", 1)):
        for i in range(num):
            write(tmp_path / "train" / name / f"{i}.png", (20 + 10 * i, 12))
        write(tmp_path / "val" / name / "x.jpg", (90, 30), 7, "L")
        write(tmp_path / "test" / name / "x.jpg", (50, 60), (1, 2, 3, 4), "CMYK")
    found = describe_folder(tmp_path)
    assert found["images"] == {"train": 4, "val": 2, "test": 2}
    assert found["classes"] == {
        "a": {"train": 3, "val": 1, "test": 1},
        "b": {"train": 1, "val": 1, "test": 1},
    }
    assert found["width"] == [20, 45, 90]
    assert found["height"] == [12, 21, 60]
    assert found["modes"] == {"PNG RGB": 4, "JPEG L": 2, "JPEG CMYK": 2}


def test_modes_name_the_whole_suffix_of_volumes_with_and_without_masks(tmp_path):
    volume = ramp(4, 6, 6) % 2
    for folder in ("a", "b", "images", "masks"):
        root = tmp_path / ("pairs" if len(folder) > 1 else "classes")
        for k in range(3):
            write_nifti(root / folder / f"{k}.v1.nii.gz", volume)
    sizes = {"num_slices": 4, "image_size": 6}
    for name, root in (("volume_folder", "classes"), ("mask_folder_3d", "pairs")):
        data = create_datamodule(name, root=tmp_path / root, **sizes)
        found = describe(data, scan_images(data, None))
        assert [*found["modes"]] == [".nii.gz, 1 channel, 4 slices"]


def test_rotated_photograph_has_its_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turned by a quarter
    for name in "ab":
        for part in ("train", "val", "test"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 16)).save(folder / "x.jpg", exif=exif)
    found = describe_folder(tmp_path)
    assert (found["width"], found["height"]) == ([16, 16, 16], [40, 40, 40])


def test_duplicates_are_found_within_and_across_splits(tmp_path):
    colours = {"train/a/1": 1, "train/a/2": 1, "train/a/3": 3, "train/b/4": 3, "train/b/5": 5}
    colours |= {"val/a/6": 6, "val/b/7": 5, "test/a/8": 1, "test/b/9": 6}
    for name, level in colours.items():
        write(tmp_path / f"{name}.png", (9, 9), (level, 0, 0))
    found = {tuple(d["splits"]): d for d in describe_folder(tmp_path)["duplicates"]}
    assert {splits: d["num"] for splits, d in found.items()} == {
        ("train", "train"): 2,
        ("train", "val"): 1,
        ("train", "test"): 1,
        ("val", "test"): 1,
    }
    assert found["train", "train"]["num_mislabelled"] == 1
    example = [Path(path).stem for path in found["train", "train"]["example"]]
    assert example == ["3", "4"]  # the one that is mislabelled
    assert found["train", "test"]["num_mislabelled"] == 0
    assert found["val", "test"]["num_mislabelled"] == 1


def test_duplicates_in_memory_are_named_by_split_and_index(synthetic):
    splits = synthetic.splits
    splits.test.images[4] = splits.train.images[20]
    (found,) = describe(synthetic, scan_images(synthetic, None))["duplicates"]
    assert found["splits"] == ("train", "test")
    assert found["example"] == ("train[20]", "test[4]")


def test_damaged_files_are_listed_with_their_reason_and_counted_nowhere_else(tmp_path):
    for part in ("train", "val", "test"):
        for name in "ab":
            write(tmp_path / part / name / "1.png", (9, 9), (1, 1, 1))
    bad = tmp_path / "train" / "a" / "bad.jpg"
    bad.write_bytes(b"no image")
    found = describe_folder(tmp_path)
    assert list(found["unreadable"]) == [str(bad)]
    assert "cannot be read as an image" in found["unreadable"][str(bad)]
    assert found["mean"] == pytest.approx([1 / 255] * 3, abs=1e-4)
    assert found["width"] == [9, 9, 9]


def test_files_scanned_are_evenly_spaced(tmp_path):
    for name in "ab":
        for part, num in (("train", 20), ("val", 5), ("test", 5)):
            for i in range(num):
                write(tmp_path / part / name / f"{i:02}.png", (9, 9))
    data = create_datamodule("image_folder", root=tmp_path, image_size=8)
    records = scan_images(data, 7)
    found = [(r.split, r.index) for r in records]
    assert found == [("train", n) for n in (0, 10, 20, 30, 39)] + [("val", 9), ("test", 9)]


def test_images_in_shards_are_scanned_by_their_names(tmp_path):
    write(tmp_path / "1.png", (20, 12), (10, 20, 30))
    for split in ("train", "val", "test"):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as tar:
            for i in range(2):
                tar.add(tmp_path / "1.png", f"{split}{i}.png")
                (tmp_path / "1.cls").write_text(str(i))
                tar.add(tmp_path / "1.cls", f"{split}{i}.cls")
    settings = {"root": tmp_path, "image_size": 8, "cache_dir": tmp_path / "kept", "num_classes": 2}
    data = create_datamodule("webdataset", **settings)
    found = describe(data, scan_images(data, None))
    assert (found["scanned"], found["unreadable"], found["width"]) == (6, {}, [20, 20, 20])
    assert found["mean"] == pytest.approx([10 / 255, 20 / 255, 30 / 255], abs=1e-4)
