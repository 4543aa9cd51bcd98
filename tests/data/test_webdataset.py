"""Images in tar shards, of small files that are written as webdataset does."""

import io
import json
import tarfile
from collections import Counter

import pytest
import torch
from PIL import Image

from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.find_shards import fetch_shards, find_shards
from mambavision_lab.data.shards import list_samples


def encoded(label, k, suffix="png"):
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (100 * label, k, 7)).save(file, "PNG" if suffix == "png" else "JPEG")
    return file.getvalue()


def pack(path, files):
    """Write a tar of name -> content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(num, start=0, names=None):
    """Names and contents of num samples, of two classes in turn; the second channel is their number."""
    files = {}
    for k in range(start, start + num):
        files[f"{k:04}.png"] = encoded(k % 2, k)
        files[f"{k:04}.cls"] = (names[k % 2] if names else str(k % 2)).encode()
        files[f"{k:04}.json"] = json.dumps({"breed": ["ant", "bee"][k % 2]}).encode()
    return files


@pytest.fixture
def root(tmp_path):
    """Two training shards of six images, and one each to validate and test on, of four."""
    folder = tmp_path / "shards"
    for name, start, num in (
        ("train-000", 0, 6),
        ("train-001", 6, 6),
        ("val-000", 12, 4),
        ("test-000", 16, 4),
    ):
        pack(folder / f"{name}.tar", samples(num, start))
    return folder


@pytest.fixture
def make(tmp_path):
    def call(root, **settings):
        options = {
            "image_size": 8,
            "batch_size": 4,
            "num_workers": 0,
            "cache_dir": tmp_path / "kept",
        }
        return create_datamodule("webdataset", root=root, **(options | settings))

    return call


def numbers(part):
    return [(int(part[k][0][1, 4, 4]), part[k][1]) for k in range(len(part))]


def test_webdataset_reads_every_image_with_its_label(root, make):
    data = make(root)
    assert (data.num_classes, data.class_names) == (2, ["0", "1"])
    splits = data.splits
    for part, first, last in ((splits.train, 0, 12), (splits.val, 12, 16), (splits.test, 16, 20)):
        assert numbers(part) == [(k, k % 2) for k in range(first, last)]
    image, label = splits.test[1]
    assert image[:, 4, 4].tolist() == [100 * label, 17, 7]


def test_webdataset_shuffles_by_seed_and_epoch_whatever_the_workers(root, make):
    orders = []
    for workers in (0, 1):
        torch.manual_seed(3)
        loader = make(root, num_workers=workers).train_dataloader()
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            orders.append([k for images, *_ in loader for k in images[:, 1, 4, 4].tolist()])
    assert orders[:2] == orders[2:]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    assert orders[0] != orders[1]


def test_webdataset_without_splits_holds_out_of_each_class(tmp_path, make):
    for k in range(2):
        pack(tmp_path / "all" / f"{k:03}.tar", samples(10, 10 * k, names=("cat", "dog")))
    data = make(tmp_path / "all", val_fraction=0.2)
    assert data.class_names == ["cat", "dog"]
    parts = [numbers(part) for part in (data.splits.train, data.splits.val, data.splits.test)]
    assert [Counter(label for _, label in part) for part in parts] == [
        {0: 6, 1: 6},
        {0: 2, 1: 2},
        {0: 2, 1: 2},
    ]
    assert sorted(k for part in parts for k, _ in part) == list(range(20))


def test_webdataset_takes_labels_of_json_and_names_of_numbers(root, make):
    assert make(root, label_key="json.breed").class_names == ["ant", "bee"]
    (root / "names.txt").write_text("wasp\nfly\n")
    data = make(root, classes="names.txt")
    assert data.class_names == ["wasp", "fly"]
    assert numbers(data.splits.test)[1] == (17, 1)
    assert make(root, label_key="json.breed", classes=["bee", "ant"]).splits.test[0][1] == 1


def test_list_of_a_shard_is_kept_until_the_shard_changes(root, tmp_path, monkeypatch):
    shard, kept = root / "val-000.tar", tmp_path / "kept"
    first = list_samples(str(shard), "cls", str(kept))
    monkeypatch.setattr(tarfile, "open", None)
    assert list_samples(str(shard), "cls", str(kept)) == first
    monkeypatch.undo()
    pack(shard, samples(2))
    assert [member.path for member, _ in list_samples(str(shard), "cls", str(kept))] == [
        "0000.png",
        "0001.png",
    ]


def test_list_of_a_shard_needs_no_folder_to_be_kept_in(root, tmp_path):
    (tmp_path / "file").touch()
    assert len(list_samples(str(root / "val-000.tar"), "cls", str(tmp_path / "file"))) == 4


def test_shards_of_folders_and_patterns_are_found(tmp_path):
    for name in ("train/00.tar", "train/01.tar", "Validation/00.tar"):
        pack(tmp_path / name, {})
    found = {split: find_shards(str(tmp_path), split, None) for split in ("train", "val", "test")}
    assert found == {
        "train": [f"{tmp_path}/train/00.tar", f"{tmp_path}/train/01.tar"],
        "val": [f"{tmp_path}/Validation/00.tar"],
        "test": [],
    }
    for pattern in (
        "train/*.tar",
        "train/{00..01}.tar",
        "train/0{0,1}.tar",
        ["train/00.tar", "train/01.tar"],
    ):
        assert find_shards(str(tmp_path), "train", pattern) == found["train"]


def test_shards_at_an_address_are_downloaded_once(served, root, make):
    address, folder = served
    for shard in root.iterdir():
        shard.rename(folder / shard.name)
    settings = {
        "train_shards": "train-{000..001}.tar",
        "val_shards": "val-000.tar",
        "classes": ["ant", "bee"],
    }
    data = make(address, **settings)
    data.prepare_data()
    for shard in folder.iterdir():
        shard.unlink()
    splits = make(address, **settings).splits
    assert (len(splits.train), len(splits.val), len(splits.test)) == (10, 4, 2)


def test_address_is_refused_without_names_or_where_a_shard_is_gone(served, make, refusal):
    address, _ = served
    message = refusal(lambda: make(address))
    assert message.startswith(f"data.root={address}: is an address, where no names are listed")
    message = refusal(lambda: make(address, train_shards="gone.tar"))
    assert f"could not be downloaded from {address}/gone.tar (HTTP Error 404" in message


def cut(at):
    return lambda shard: shard.write_bytes(shard.read_bytes()[:at])


def repack(files):
    return lambda shard: pack(shard, files)


def double(shard, files):
    with tarfile.open(shard, "w") as tar:
        for name in (*files, *files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            tar.addfile(info, io.BytesIO(files[name]))


# What becomes of val-000.tar, and what the message must say of it.
DAMAGED = {
    "within a header": (cut(700), "ends early"),
    "within an image": (cut(512 + 40), "ends early"),
    "between members": (cut(1024), "ends early (the mark of its end is missing)"),
    "empty": (cut(0), "is no uncompressed tar, or ends early (empty file)"),
    "text": (lambda shard: shard.write_text("no tar" * 200), "is no uncompressed tar"),
    "without images": (repack({}), "holds no images"),
    "without a label": (repack({"a.png": encoded(0, 0)}), "a has no .cls among png"),
    "label apart": (
        repack({"a.png": encoded(0, 0), "b.png": encoded(0, 0), "a.cls": b"0", "b.cls": b"0"}),
        "a has no .cls among png",
    ),
    "without an image": (repack({"a.cls": b"0"}), "a has 0 images among cls"),
    "two images": (
        repack({"a.png": encoded(0, 0), "a.jpg": encoded(0, 0, "jpg"), "a.cls": b"0"}),
        "a has 2 images among png, jpg, cls",
    ),
    "twice": (
        lambda shard: double(shard, {"a.png": encoded(0, 0), "a.cls": b"0"}),
        "holds a twice, so that its image would count twice",
    ),
    "two members of a name": (
        repack({"a.png": encoded(0, 0), "a.CLS": b"0", "a.cls": b"1"}),
        "holds a twice",
    ),
    "two tars in one": (
        lambda shard: shard.write_bytes(2 * shard.read_bytes()),
        "ends early (more follows behind the mark of its end)",
    ),
    "zeros in place of samples": (
        lambda shard: shard.write_bytes(shard.read_bytes() + bytes(2**21)),
        "ends early (zeros follow in place of more samples)",
    ),
    "empty label": (repack({"a.png": encoded(0, 0), "a.cls": b" "}), "a.cls is empty"),
    "binary label": (repack({"a.png": encoded(0, 0), "a.cls": b"\xff"}), "a.cls holds no label"),
    "unknown label": (
        repack({"a.png": encoded(0, 0), "a.cls": b"2"}),
        "a.png: label '2' is unknown; wanted one of 2 classes (0, 1)",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_shard_is_named(root, make, refusal, damage, message):
    shard = root / "val-000.tar"
    damage(shard)
    found = refusal(lambda: make(root).splits)
    assert found.startswith(f"{shard}: ")
    assert message in found


def test_damaged_shard_of_the_training_is_named_before_it_starts(root, make, refusal):
    cut(2048)(root / "train-001.tar")
    assert refusal(lambda: make(root)).startswith(f"{root}/train-001.tar: ")


def test_damaged_image_is_named_by_shard_and_place(root, make, refusal, caplog):
    shard = pack(root / "val-000.tar", {"a.png": b"no image", "a.cls": b"0"} | samples(2, 12))
    data = make(root, check_files=True)
    assert list(data.find_bad_images()) == [f"{shard}: a.png"]
    assert f"{shard}: a.png: cannot be read as an image" in refusal(lambda: data.splits.val[0])
    assert f"data.root={root}: 1 of the image files cannot be read: " in refusal(data.prepare_data)
    skipping = make(root, check_files=True, on_bad_image="skip")
    assert len(skipping.splits.val) == 2
    assert list(skipping.skipped) == [f"{shard}: a.png"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_shards": "x-*.tar"}, "data.train_shards: {root}/x-*.tar is not there"),
        ({"train_shards": "*.tar"}, "{root}/val-000.tar: is in data.val_shards and another time"),
        ({"root": "gone"}, "data.root=gone: no such folder"),
        ({"train_shards": ""}, "data.train_shards=: wanted names of shards below data.root"),
        ({"train_shards": "/a.tar"}, "data.train_shards=/a.tar: wanted names of shards below"),
        ({"label_key": "json.colour"}, "train-000.tar: 0000.json holds no label ('colour')"),
        ({"classes": ["ant", "bee", "cat"], "num_classes": 2}, "data.num_classes=2, but the data"),
    ],
)
def test_webdataset_refuses_in_one_line(root, make, refusal, settings, message):
    found = refusal(lambda: make(**({"root": root} | settings)).splits)
    assert message.format(root=root) in found


def test_folder_of_shards_whose_use_is_unclear_is_refused(root, tmp_path, make, refusal):
    pack(root / "more.tar", samples(2))
    assert f"unclear what {root}/more.tar is for" in refusal(lambda: make(root))
    (tmp_path / "empty").mkdir()
    assert "holds no .tar shards" in refusal(lambda: make(tmp_path / "empty"))
    pack(tmp_path / "single" / "0.tar", {"a.png": encoded(0, 0), "a.cls": b"3"})
    assert "one class only, '3'" in refusal(lambda: make(tmp_path / "single"))


def test_label_that_is_null_is_refused(tmp_path, make, refusal):
    files = samples(4) | {"0002.json": b'{"breed": null}'}
    shard = pack(tmp_path / "nulls" / "a.tar", files)
    message = refusal(lambda: make(tmp_path / "nulls", label_key="json.breed"))
    assert message.startswith(f"{shard}: 0002.json holds no label (breed is null)")


def test_shards_that_differ_in_the_query_of_their_address_are_told_apart(tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        "mambavision_lab.data.download.download", lambda url, path: fetched.append((url, path))
    )
    paths = fetch_shards([f"https://host.example/get.tar?part={k}" for k in (1, 2)], str(tmp_path))
    assert len({*paths}) == 2
    assert [str(path) for _, path in fetched] == paths
    assert all(path.startswith(f"{tmp_path}/host.example/") for path in paths)
