from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.image_files import ImageFiles, evaluation_transform
from mambavision_lab.data.image_folder import ImageFolderDataModule

CLASSES = ["ant", "bee", "cat"]


def make(root, **settings):
    defaults = {"image_size": 8, "in_chans": 3, "num_classes": 3, "mean": [0.5], "std": [0.25]}
    return ImageFolderDataModule(root=str(root), **(defaults | settings))


def paths(part, root):
    return {Path(path).relative_to(root).as_posix() for path, _ in part.items}


def decode(path, in_chans=3, size=8):
    return ImageFiles([(str(path), 0)], in_chans, evaluation_transform(size))[0][0]


# Folder -> images a class, and the images a class that train, val and test then have.
LAYOUTS = {
    "train, val, test": ({"train": 10, "val": 4, "test": 3}, (10, 4, 3)),
    "train, val": ({"train": 10, "val": 4}, (8, 4, 2)),
    "train, test": ({"train": 10, "test": 3}, (8, 2, 3)),
    "train": ({"train": 10}, (6, 2, 2)),
    "no folders": ({"": 10}, (6, 2, 2)),
    "other names": ({"Training": 10, "valid": 4, "TEST": 3}, (10, 4, 3)),
}


@pytest.mark.parametrize(("folders", "sizes"), LAYOUTS.values(), ids=LAYOUTS)
def test_image_folder_reads_each_layout_without_overlap(tmp_path, write_images, folders, sizes):
    for name, num in folders.items():
        write_images(tmp_path / name, num)
    splits = make(tmp_path, val_fraction=0.2).splits
    assert splits.class_names == CLASSES
    parts = (splits.train, splits.val, splits.test)
    for part, per_class in zip(parts, sizes, strict=True):
        labels = torch.tensor([label for _, label in part.items])
        assert labels.bincount().tolist() == [per_class] * 3
        assert all(Path(path).parent.name == CLASSES[label] for path, label in part.items)
    found = [paths(part, tmp_path) for part in parts]
    written = sum(3 * num for num in folders.values())
    assert sum(map(len, found)) == len(set().union(*found)) == written


def test_image_folder_seed_fixes_what_is_held_out(tmp_path, write_images):
    write_images(tmp_path, 10)
    first, again, other = (paths(make(tmp_path, seed=s).splits.val, tmp_path) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_image_folder_delivers_the_files_pixels_with_their_labels(tmp_path, write_images):
    write_images(tmp_path, 10)
    splits = make(tmp_path).splits
    for part in (splits.train, splits.val, splits.test):
        for i, (path, label) in enumerate(part.items):
            image, got = part[i]
            assert got == label
            assert image.dtype == torch.uint8
            colour = torch.tensor([60 * label, 10 * int(Path(path).stem), 200])
            assert torch.equal(image, colour.byte()[:, None, None].expand(3, 8, 8))


def test_image_folder_evaluates_the_centre_and_crops_only_for_training(tmp_path):
    ramp = np.tile(np.arange(0, 64, dtype=np.uint8) * 4, (32, 1))  # 32 high, 64 wide
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(ramp).save(tmp_path / name / f"{i}.png")
    splits = make(tmp_path, image_size=28, augment=Augment(crop_scale=[0.3, 0.5])).splits
    for part in (splits.val, splits.test):
        assert torch.equal(part[0][0], torch.from_numpy(ramp[2:30, 18:46]).expand(3, 28, 28))
    crops = [splits.train[0][0] for _ in range(4)]
    assert all(crop.shape == (3, 28, 28) for crop in crops)
    assert not torch.equal(crops[0], crops[1])
    splits = make(tmp_path, image_size=28, augment=Augment()).splits
    assert torch.equal(splits.train[0][0], splits.train[0][0])
    assert torch.equal(splits.train[0][0], splits.val[0][0])


MODES = [(mode, "png") for mode in ("RGB", "RGBA", "P", "L", "LA", "1")] + [("CMYK", "tif")]


@pytest.mark.parametrize(("mode", "suffix"), MODES)
def test_image_folder_decodes_every_mode(tmp_path, mode, suffix):
    colour = (255, 0, 0) if mode in ("RGB", "RGBA", "P", "CMYK") else (255, 255, 255)
    grey = 76 if colour == (255, 0, 0) else 255  # 0.299 of 255
    path = tmp_path / f"one_colour.{suffix}"
    Image.new("RGB", (9, 12), colour).convert(mode).save(path)
    assert decode(path)[:, 4, 4].tolist() == list(colour)
    assert decode(path, in_chans=1)[:, 4, 4].tolist() == [grey]


@pytest.mark.parametrize("in_chans", [1, 3])
def test_image_folder_scales_16_bit_grey(tmp_path, in_chans):
    Image.fromarray(np.full((8, 8), 32896, dtype=np.uint16)).save(tmp_path / "grey.png")
    assert decode(tmp_path / "grey.png", in_chans).unique().tolist() == [128]


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def write_bad_ppm_size(path):
    path.write_bytes(b"P6\n8 x8\n255\n" + bytes(192))


def write_huge_bmp(path):
    Image.new("L", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = b"\xff\xff\x0f\x00" * 2  # a million pixels a side
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("0.png", lambda path: path.write_bytes(b"")),
        ("0.jpg", lambda path: path.write_text("no image")),
        ("0.png", cut),
        ("0.jpg", cut),
        ("0.ppm", write_bad_ppm_size),
        ("0.bmp", write_huge_bmp),
    ],
)
def test_image_folder_names_a_corrupt_file(tmp_path, refusal, name, spoil):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    spoil(tmp_path / name)
    assert str(tmp_path / name) in refusal(lambda: decode(tmp_path / name))


def test_image_folder_names_a_corrupt_file_met_by_a_worker(tmp_path, write_images, refusal):
    write_images(tmp_path / "train", 4)
    write_images(tmp_path / "val", 1)
    (tmp_path / "val" / "bee" / "0.png").write_text("no image")
    loader = make(tmp_path, num_workers=1).val_dataloader()
    message = refusal(lambda: list(loader))
    assert message.startswith(str(tmp_path / "val" / "bee" / "0.png"))


def test_image_folder_loads_batches_in_worker_processes(tmp_path, write_images):
    write_images(tmp_path, 10)
    data = make(tmp_path, num_workers=2, batch_size=2)
    images, labels = (torch.cat(part) for part in zip(*data.test_dataloader(), strict=True))
    assert labels.tolist() == [0, 1, 2]
    assert images[:, 0, 0, 0].tolist() == [0, 60, 120]


def without_root(root):
    without_classes(root)
    (root / "train").rmdir()
    root.rmdir()


def without_classes(root):
    for name in ("ant", "bee"):
        (root / "train" / name).rmdir()


def with_one_image(root):
    for name in ("ant", "bee"):
        Image.new("L", (8, 8)).save(root / "train" / name / "0.png")


def with_one_class(root):
    (root / "train" / "ant").rmdir()


# What is done to root/train/ant/ -> what the message must name.
REFUSED = [
    (without_root, "data.root={root}"),
    (without_classes, "{root}/train: holds no class folders"),
    (lambda root: None, "{root}/train/ant: holds no images"),
    (with_one_image, "data.root={root}: no class has an image to spare for test/"),
    (with_one_class, "data.root={root}: one class only, 'bee'"),
]


@pytest.mark.parametrize(("change", "named"), REFUSED)
def test_image_folder_refuses_folders_without_data(tmp_path, refusal, change, named):
    root = tmp_path / "root"
    for name in ("ant", "bee"):
        (root / "train" / name).mkdir(parents=True)
    change(root)
    assert named.format(root=root) in refusal(lambda: make(root, num_classes=2).splits)


def test_image_folder_refuses_a_val_class_that_train_lacks(tmp_path, write_images, refusal):
    write_images(tmp_path / "train", 2)
    write_images(tmp_path / "val", 2, "ant dog")
    message = refusal(lambda: make(tmp_path).splits)
    assert f"{tmp_path}/val" in message
    assert "['dog']" in message


def test_image_folder_takes_a_part_of_the_classes_in_test(tmp_path, write_images):
    write_images(tmp_path / "train", 4)
    write_images(tmp_path / "test", 2, "cat")
    splits = make(tmp_path).splits
    assert [label for _, label in splits.test.items] == [2, 2]


def test_image_folder_warns_of_what_it_passes_over(tmp_path, write_images, caplog):
    write_images(tmp_path / "train", 4)
    (tmp_path / "train" / "ant" / "5.heic").touch()
    write_images(tmp_path / "val", 1, "ant cat")
    _ = make(tmp_path / "train").splits
    (beside, heic) = caplog.messages
    assert "val/ beside it is not used" in beside
    assert heic.endswith("not read as images: 1 .heic")
    caplog.clear()
    _ = make(tmp_path).splits
    assert any(m.endswith("has no images of 1 of 3 classes: bee") for m in caplog.messages)


# Folder -> images a class; the images a class that are all tested, and the folder they are in.
TESTED = {
    "no folders": ({"": 5}, 5, ""),
    "test": ({"test": 4}, 4, "test"),
    "val": ({"Val": 4}, 4, "Val"),
    "train, val": ({"train": 5, "val": 3}, 3, "val"),
    "train, test": ({"train": 5, "test": 2}, 2, "test"),
    "train": ({"train": 5}, 5, "train"),
}


@pytest.mark.parametrize(("folders", "num", "tested"), TESTED.values(), ids=TESTED)
def test_image_folder_can_be_for_the_test_as_a_whole(tmp_path, write_images, folders, num, tested):
    for name, count in folders.items():
        write_images(tmp_path / name, count)
    data = make(tmp_path)
    data.listing.use_all_for_test()
    labels = torch.tensor([label for _, label in data.splits.test.items])
    assert labels.bincount().tolist() == [num] * 3
    assert {Path(path).parents[1] for path, _ in data.splits.test.items} == {tmp_path / tested}
    assert (len(data.splits.train), len(data.splits.val)) == (0, 0)
