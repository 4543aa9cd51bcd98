"""A cache gives what decoding gives, is made once, made anew after a change, and never fills a disk."""

import fcntl
import os
import pickle
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from image_bytes import encoded, exif_of
from PIL import Image

from mambavision_lab.data import cache, cache_memory, cached_files
from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.cached_files import Finished, ForCrops
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.training_images import TrainingImages


@pytest.fixture
def root(tmp_path):
    """Eight images of several formats, sizes and orientations, in two classes."""
    rng = np.random.default_rng(0)
    sizes = [(40, 60), (60, 40), (9, 9), (14, 200), (33, 33), (40, 60), (64, 48), (20, 21)]
    for k, (height, width) in enumerate(sizes):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        options = {"exif": b"Exif\0\0" + exif_of(6)} if k == 0 else {}
        kind = "JPEG" if k % 2 == 0 else "PNG"
        path = tmp_path / "root" / f"class{k // 4}" / f"{k}.{kind.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image, kind, **options))
    return tmp_path / "root"


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A folder in place of /dev/shm, and no files held."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(cache_memory, "_SHARED_MEMORY", folder)
    monkeypatch.setattr(cache_memory, "_held", {})
    return folder


@pytest.fixture
def make(root, tmp_path):
    def make(kind="disk", crop_scale=(0.3, 1.0), **options):
        augment = Augment(crop_scale=list(crop_scale) if crop_scale else None)
        settings = {"image_size": 14, "num_workers": 0, "val_fraction": 0.25, "augment": augment}
        settings |= {"cache": kind, "cache_dir": str(tmp_path / "cache")}
        data = create_datamodule("image_folder", root=root, **(settings | options))
        data.setup("fit")
        return data

    return make


def files_in(folder):
    return sorted(Path(folder).rglob("*.images"))


@pytest.fixture
def fills(monkeypatch):
    """Number of images of each cache that was made."""
    counts, fill = [], cached_files.fill

    def count(path, items, *args):
        counts.append(len(items))
        fill(path, items, *args)

    monkeypatch.setattr(cached_files, "fill", count)
    return counts


def test_cached_evaluation_is_that_of_the_files(make):
    cached, decoded = make(), make(None)
    assert cached.splits.val.cache is not None
    for (image, label), (expected, other) in zip(
        cached.splits.val, decoded.splits.val, strict=True
    ):
        assert image.equal(expected)
        assert label == other
    cached, decoded = make(crop_scale=None).splits.train, make(None, crop_scale=None).splits.train
    assert all(cached[k][0].equal(decoded[k][0]) for k in range(len(decoded)))


def test_cached_training_images_are_cropped_as_those_of_files_are(make):
    # At 60 pixels no image of these is larger than what is kept; of the strip the ends are cut.
    cached, decoded = (
        TrainingImages(make(kind, image_size=60).splits.train, 0) for kind in ("disk", None)
    )
    positions = [
        k for k in range(3 * len(decoded)) if "3.png" not in str(decoded.data.items[k % 4])
    ]
    assert len(positions) >= 9
    images, labels, _ = cached.__getitems__(positions)
    expected, expected_labels, _ = decoded.__getitems__(positions)
    assert labels.equal(expected_labels)
    assert images.equal(expected)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_cached_photograph_is_smaller_and_cropped_alike(make):
    cached, decoded = (TrainingImages(make(kind).splits.train, 0) for kind in ("disk", None))
    large = [
        k
        for k, (path, _) in enumerate(decoded.data.items)
        if "/5." in str(path) or "/6." in str(path)
    ]
    assert large
    for k in large:
        assert min(cached.data.cache[k].shape[1:]) == 16
    assert cached.__getitems__(large)[0].shape == (len(large), 3, 14, 14)


def test_kept_sizes_are_those_of_what_is_kept():
    for height, width in [
        (375, 500),
        (500, 375),
        (10, 12),
        (256, 256),
        (300, 3000),
        (2, 900),
        (1, 1),
    ]:
        form = ForCrops(224)
        kept = form(torch.zeros(3, height, width, dtype=torch.uint8))
        assert tuple(kept.shape[1:]) == form.size(height, width)
        assert min(kept.shape[1:]) == min(height, width, 256)
    assert Finished(8, 0.875)(torch.zeros(3, 30, 20, dtype=torch.uint8)).shape == (3, 8, 8)


def test_cache_is_made_once_and_serves_other_runs(make, fills, tmp_path):
    make()
    assert len(files_in(tmp_path / "cache")) == 2  # train and val
    assert sorted(fills) == [2, 4]
    again = make()
    assert sorted(fills) == [2, 4]
    assert again.splits.test.cache is None  # read once only


def test_cache_is_made_anew_when_a_file_or_a_setting_changes(make, fills, tmp_path, root):
    before = make().splits.train
    path = Path(before.items[0][0])
    shutil.copy(path, tmp_path / "kept")
    Image.new("RGB", (40, 40), (7, 7, 7)).save(path)
    train = make().splits.train
    assert len(fills) == 3
    assert train[0][0].unique().tolist() == [7]
    assert len(files_in(tmp_path / "cache")) == 2  # that of the old file is removed
    make(image_size=12)
    make(in_chans=1, mean=[0.5], std=[0.5])
    assert len(fills) == 7
    make(background=0)
    assert len(fills) == 9


def test_cut_off_cache_is_made_anew(make, fills, tmp_path):
    make()
    for path in files_in(tmp_path / "cache"):
        path.write_bytes(path.read_bytes()[:-1])
    make()
    assert len(fills) == 4


def test_cache_that_would_fill_the_disk_is_refused(make, monkeypatch, refusal, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 3000))
    message = refusal(make)
    assert message.startswith(f"data.cache=disk in {tmp_path}/cache/images: the images need 0.0 GB")
    assert "choose another disk with data.cache_dir=FOLDER, or data.cache=null" in message
    assert not files_in(tmp_path)


def test_full_disk_leaves_nothing_behind(make, monkeypatch, refusal, tmp_path):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mambavision_lab.files.os.fsync", fail)
    assert "the cache of images cannot be written" in refusal(make)
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_damaged_file_is_named_and_leaves_no_cache(make, refusal, root, tmp_path):
    path = root / "class0" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])
    assert str(path) in refusal(make)
    assert str(path) in refusal(lambda: make(check_files=False))
    assert not files_in(tmp_path)
    data = make(on_bad_image="skip")
    assert len(data.splits.train) + len(data.splits.val) + len(data.splits.test) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "ram"}, "data.cache=ram is unknown; choose null, memory or disk"),
        ({"cache_dir": None}, "data.cache=disk needs a folder; give data.cache_dir=FOLDER"),
    ],
)
def test_cache_settings_are_refused_in_one_line(make, refusal, settings, message):
    assert refusal(lambda: make(**settings)) == message


def test_cache_in_memory_is_removed_by_the_last_process(make, memory, monkeypatch):
    data = make("memory")
    (path, *_) = files_in(memory)
    assert oct(path.parent.stat().st_mode)[-3:] == "700"
    other = os.open(path, os.O_RDONLY)  # of another process
    fcntl.flock(other, fcntl.LOCK_SH)
    cache_memory._release()
    assert files_in(memory) == [path]
    os.close(other)
    cache_memory._release()
    assert not files_in(memory)
    assert data.splits.train[0][0].shape == (3, 14, 14)  # mapped all the same


def test_abandoned_cache_in_memory_is_removed(memory):
    folder = cache_memory.memory_folder()
    for name in ("killed.images", "writing.images", "held.images"):
        (folder / name).touch()
        if name != "writing.images":
            os.utime(folder / name, (0, 0))
    cache_memory.hold(folder / "held.images")
    other = os.open(folder / "held.images", os.O_RDONLY)
    cache_memory.remove_abandoned()
    os.close(other)
    assert {path.name for path in folder.iterdir()} == {"writing.images", "held.images"}


def test_cache_larger_than_memory_is_refused(make, memory, monkeypatch, refusal):
    monkeypatch.setattr(cache_memory, "free_memory", lambda: 100)
    assert "data.cache=memory: the images need" in refusal(lambda: make("memory"))


def test_free_memory_is_that_of_the_machine_at_most(memory):
    assert 0 < cache_memory.free_memory() < 2**50


def test_workers_map_the_cache_and_are_not_sent_it(make):
    images = make().splits.train.cache
    sent = pickle.dumps(images)
    assert len(sent) < 500
    assert pickle.loads(sent)[1].equal(images[1])


def test_cached_images_in_shards_follow_their_shard(tmp_path):
    member = namedtuple("member", "name sources")("a.tar: 1.png", (str(tmp_path / "a.tar"),))
    (tmp_path / "a.tar").write_bytes(b"1")
    path = cache.cache_path(tmp_path, [member], [1])
    assert cache.cache_path(tmp_path, [member], [1]) == path
    assert cache.cache_path(tmp_path, [member], [2]) != path
    (tmp_path / "a.tar").write_bytes(b"12")
    assert cache.cache_path(tmp_path, [member], [1]) != path
