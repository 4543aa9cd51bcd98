"""preview.py as a user runs it: pictures, statistics, damaged files, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = (
    "data.num_train=40 data.num_val=10 data.num_test=10 num_images=4 num_epochs=2 seconds=0".split()
)


@pytest.fixture
def previews(tmp_path):
    """Folders of the previews so far, in order."""
    return lambda: sorted((tmp_path / "logs" / "preview").glob("*/*"))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes of seven images for training and a test image each; two files are damaged."""
    root = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for part, num in (("train", 7), ("test", 1)):
        for name in ("cat [a]", "dog"):
            (root / part / name).mkdir(parents=True)
            for i in range(num):
                pixels = generator.integers(0, 256, (12 + i, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    train = root / "train"
    (train / "dog" / "empty.jpg").touch()
    cut = (train / "dog" / "0.png").read_bytes()[:200]
    (train / "dog" / "cut.png").write_bytes(cut)
    return root


def test_preview_writes_a_picture_and_statistics(call, previews):
    status, out, err = call("preview", *SMALL, "data.num_classes=3", "augment=light")
    assert (status, err) == (0, "")
    (folder,) = previews()
    assert folder.parent.name == "synthetic-light"
    with Image.open(folder / "preview.png") as picture:
        width, height = picture.size
    assert 0.9 < width / height < 1.6  # 4 columns of 3 rows
    statistics = json.loads((folder / "preview.json").read_text())
    assert statistics["images"] == {"train": 40, "val": 10, "test": 10}
    counts = statistics["classes"]["disc-plain"]
    assert counts == {"train": 14, "val": 4, "test": 4}
    assert statistics["width"] == statistics["height"] == [32, 32, 32]
    mean, std = (",".join(map(str, statistics[key])) for key in ("mean", "std"))
    assert f"data.mean=[{mean}] data.std=[{std}]\n" in out
    assert {path.name for path in folder.iterdir()} >= {"config.yaml", "provenance.json"}


def test_preview_measures_the_loader(call, previews):
    options = ["seconds=0.01", "data.num_workers=1", "augment=none"]
    status, out, _ = call("preview", *SMALL, *options)
    assert status == 0
    statistics = json.loads((previews()[0] / "preview.json").read_text())
    assert set(statistics["loaded_per_s"]) == {"0", "1"}
    assert min(*statistics["loaded_per_s"].values(), statistics["prepared_per_s"]) > 0
    assert "images/s without workers; " in out
    assert "with 1 worker " in out


def test_preview_of_a_folder_shows_what_can_be_read_and_lists_the_rest(call, photos, previews):
    shutil.copy(photos / "train" / "dog" / "0.png", photos / "test" / "dog" / "again.png")
    options = ["data=image_folder", f"data.root={photos}", "data.image_size=16", "augment=light"]
    status, out, err = call(
        "preview", *options, "num_epochs=1", "seconds=0.01", "data.num_workers=1"
    )
    assert (status, err) == (0, "")
    statistics = json.loads((previews()[0] / "preview.json").read_text())
    assert [Path(path).name for path in statistics["unreadable"]] == ["cut.png", "empty.jpg"]
    assert statistics["loaded_per_s"]["0"] > 0
    (twice,) = statistics["duplicates"]
    assert twice["splits"] == ["train", "test"]
    assert [Path(path).name for path in twice["example"]] == ["0.png", "again.png"]
    assert statistics["modes"] == {"PNG RGB": 17}
    assert "│ cat [a] │" in out  # not taken for markup
    assert "empty.jpg: cannot be read as an image" in out


def test_check_of_a_preview_lists_all_damaged_files(call, photos, previews):
    options = ["data=image_folder", f"data.root={photos}", "check=true"]
    for more in (["data.on_bad_image=skip"], ["-m", "augment=light,none"]):
        status, out, err = call("preview", *options, *more)
        assert (status, err.count("\n")) == (2, 1)
        assert "2 of the image files cannot be read, all listed above" in err
        assert [line.partition(":")[0] for line in out.splitlines()] == [
            str(photos / "train" / "dog" / name) for name in ("cut.png", "empty.jpg")
        ]
    for name in ("cut.png", "empty.jpg"):
        (photos / "train" / "dog" / name).unlink()
    status, out, _ = call("preview", *options)
    assert status == 0
    assert "1 job checked, nothing wrong" in out
    assert not previews()


def test_preview_scans_as_many_files_as_it_is_told_to(call, photos, previews):
    options = ["data=image_folder", f"data.root={photos}", "data.image_size=16", "seconds=0"]
    status, out, _ = call("preview", *options, "num_scanned=5", "num_images=2", "augment=none")
    assert status == 0
    assert "5 of 18 images; num_scanned=null for all" in out
    assert json.loads((previews()[0] / "preview.json").read_text())["scanned"] == 5


def test_damaged_file_that_was_not_scanned_stops_the_loader_alone(call, photos, previews):
    options = ["data=image_folder", f"data.root={photos}", "data.image_size=16", "num_scanned=5"]
    more = ["num_images=2", "augment=none", "seconds=0.2", "data.batch_size=4"]
    status, *_ = call("preview", *options, *more)
    assert status == 0
    statistics = json.loads((previews()[0] / "preview.json").read_text())
    assert "cannot be read as an image" in statistics["not_loaded"]
    assert "loaded_per_s" not in statistics


def test_preview_of_a_run_has_its_data_and_augmentation(call, previews):
    run = Path(__file__).parents[1] / "runs" / "stored_run"
    status, _, err = call("preview", f"from_run={run}", "num_images=2", "num_epochs=1", "seconds=0")
    assert (status, err) == (0, "")
    config = (previews()[0] / "config.yaml").read_text()
    assert "num_train: 64" in config
    assert "rotation_deg: 10.0" in config
    status, _, _ = call("preview", f"from_run={run}", "augment=none", "seconds=0", "num_images=2")
    assert status == 0
    assert "\naugment: null" in (previews()[-1] / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("num_images=0", "num_images=0: wanted 2 or more"),
        ("num_images=5", "num_images=5: wanted an even number"),
        ("num_images=200", "of at most 100"),
        ("num_epochs=0", "num_epochs=0: wanted 1 or more"),
        ("num_scanned=0", "num_scanned=0: wanted 1 or more"),
        ("seconds=-1", "seconds=-1.0: wanted 0 or more"),
        ("num_images=x", "num_images: "),
        ("data=image_folder", "data.root is missing"),
        ("data.num_trian=3", "did you mean 'num_train'?"),
        ("augment=heavy", "augment=heavy: no such choice"),
        ("model=mambavision_nano", "model"),
        ("from_run=/none", "no such file or folder"),
    ],
)
def test_preview_refuses_in_one_line(call, option, named):
    status, _, err = call("preview", option)
    assert (status, err.count("\n")) == (2, 1), err
    assert err.startswith("error: ")
    assert named in err


def test_check_of_a_preview_reads_masks_and_volumes(call, tmp_path):
    root = tmp_path / "pairs"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (8, 8), i if folder == "masks" else 9).save(root / folder / f"{i}.png")
    options = ("data.image_size=8", "check=true")
    status, out, err = call("preview", "data=mask_folder", f"data.root={root}", *options)
    assert (status, err.count("\n")) == (2, 1)
    assert "2 of the images with masks cannot be read, all listed above, such as: " in err
    assert out.count("and data.num_classes=2") == 2
    for name in ("a", "b"):
        (tmp_path / "volumes" / name).mkdir(parents=True)
        for i in range(3):
            np.save(tmp_path / "volumes" / name / f"{i}.npy", np.zeros((4, 8, 8), np.uint8))
    (tmp_path / "volumes" / "a" / "0.npy").write_bytes(b"no volume")
    volumes = ("data=volume_folder", f"data.root={tmp_path}/volumes", "data.num_slices=4")
    status, _, err = call("preview", *volumes, *options)
    assert (status, "1 of the volumes cannot be read" in err) == (2, True)
    assert "on_bad_image" not in err
