"""Streaming of parquet files: the same images, places and augmentation, and few row groups read twice."""

import io
import itertools

import fsspec
import pytest
import torch
from PIL import Image

from mambavision_lab.data import row_groups
from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.hf_splits import count_hf_classes
from mambavision_lab.data.hf_stream import ParquetSplit
from mambavision_lab.data.row_groups import ParquetFile, RecentGroups

datasets = pytest.importorskip("datasets")
parquet = pytest.importorskip("pyarrow.parquet")

GROUP = 5  # rows


def table(numbers, label=None):
    rows = []
    for k in numbers:
        file = io.BytesIO()
        Image.new("RGB", (12, 10), (100 * (k % 2), k, 7)).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    kinds = {"img": datasets.Image(), "kind": label or datasets.ClassLabel(names=["ant", "bee"])}
    columns = {"img": rows, "kind": [k % 2 for k in numbers]}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def write(folder, label=None, **files):
    folder.mkdir(exist_ok=True)
    for name, numbers in files.items():
        table(numbers, label).to_parquet(
            folder / f"{name.replace('_', '-')}.parquet", batch_size=GROUP
        )
    return folder


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(row_groups, "_GROUPS", RecentGroups())
    monkeypatch.setattr(row_groups, "_FIRST_WAIT_S", 0)
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two files of training images in 24 row groups, and test images."""
    folder = tmp_path_factory.mktemp("files")
    datasets.disable_progress_bars()
    return write(folder, train_0=range(63), train_1=range(63, 120), test=range(120, 136))


def make(root, **settings):
    defaults = {"image_size": 8, "num_workers": 0, "batch_size": 8, "streaming": True}
    data = create_datamodule("hf", root=root, **(defaults | settings))
    data.seed_training(3)
    return data


def order(data, epoch=0):
    """Return the images' numbers, in the order of a training epoch."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [number for batch in loader for number in batch[0][:, 1, 4, 4].tolist()]


def shrink(monkeypatch, window_rows, num_streams):
    monkeypatch.setattr(row_groups, "WINDOW_ROWS", window_rows)
    monkeypatch.setattr(row_groups, "NUM_STREAMS", num_streams)
    monkeypatch.setattr("mambavision_lab.data.block_shuffle.WINDOW_ROWS", window_rows)
    monkeypatch.setattr("mambavision_lab.data.block_shuffle.NUM_STREAMS", num_streams)


def test_streamed_splits_are_those_of_a_download(root):
    streamed, loaded = make(root), make(root, streaming=False)
    assert streamed.class_names == loaded.class_names == ["ant", "bee"]
    for split in ("train", "val", "test"):
        ours, theirs = getattr(streamed.splits, split), getattr(loaded.splits, split)
        assert len(ours) == len(theirs) > 0
        for (image, label), (wanted, wanted_label) in zip(ours, theirs, strict=True):
            assert label == wanted_label
            assert image.equal(wanted)


def test_streamed_augmentation_is_that_of_a_download_and_of_any_number_of_workers(root):
    found = []
    for settings in ({}, {"num_workers": 2}, {"streaming": False}):
        loader = make(root, augment="light", **settings).train_dataloader()
        loader.sampler.set_epoch(1)
        batches = [*loader]
        indices = torch.cat([torch.as_tensor(batch[2].indices) for batch in batches])
        images = torch.cat([batch[0] for batch in batches])
        found.append((indices, dict(zip(indices.tolist(), images, strict=True))))
    (ours, images), (with_workers, same), (theirs, loaded) = found
    assert ours.equal(with_workers)
    assert not ours.equal(theirs)
    assert all(image.equal(same[index]) for index, image in images.items())
    shared = images.keys() & loaded.keys()
    assert len(shared) > 80
    assert all(images[index].equal(loaded[index]) for index in shared)


def test_streamed_epoch_gives_each_image_once_in_an_order_of_its_own(root, monkeypatch):
    shrink(monkeypatch, 10, 4)
    data = make(root, val_fraction=0.2)
    epochs = [order(data, epoch) for epoch in range(2)]
    numbers = {int(image[1, 4, 4]) for image, _ in data.splits.train}
    for epoch in epochs:
        assert len({*epoch}) == len(epoch) == len(numbers) // 8 * 8
        assert {*epoch} <= numbers
    assert epochs[0] != epochs[1]
    assert order(data) == epochs[0]


def test_streamed_run_resumes_within_an_epoch(root):
    unbroken = order(make(root), 2)
    data = make(root)
    data.resume_at(2, 5)
    assert order(data, 2) == unbroken[40:]


def test_streamed_images_are_shared_by_processes_as_one_takes_them(root, monkeypatch, make_trainer):
    shrink(monkeypatch, 10, 4)
    whole, shares = order(make(root, batch_size=8)), []
    for rank in range(2):
        data = make(root, batch_size=4)
        share = {"num_replicas": 2, "rank": rank}
        monkeypatch.setattr("mambavision_lab.data.loaders._share_of", lambda *_, x=share: x)
        shares.append(order(data))
    assert len(shares[0]) == len(shares[1])
    assert not {*shares[0]} & {*shares[1]}
    # Two processes of batch 4 take at each step what one of batch 8 takes.
    for start in range(0, len(shares[0]), 4):
        step = {*shares[0][start : start + 4], *shares[1][start : start + 4]}
        assert step == {*whole[2 * start : 2 * start + 8]}


def test_streamed_epoch_reads_few_row_groups_twice_and_keeps_few(tmp_path, monkeypatch):
    root = write(tmp_path / "long", train=range(240), val=range(4), test=range(4))
    shrink(monkeypatch, 10, 4)
    data = make(root, batch_size=4)
    assert data.splits.train.blocks[-1] == 47
    row_groups._GROUPS.clear()
    kept = []
    for _ in data.train_dataloader():
        kept.append(row_groups._GROUPS.num_rows)
    assert len(kept) == 60
    # The windows at the ends of three streams are read by two.
    assert 48 <= row_groups._GROUPS.num_reads <= 48 + 3 * 2
    assert max(kept) <= row_groups.most_rows(GROUP) == 2 * 4 * (10 + GROUP)
    images = [data.splits.train.items[k][0] for k in range(240)]
    row_groups._GROUPS.clear()
    for k in torch.randperm(240).tolist():
        images[k].read()
    assert row_groups._GROUPS.num_reads > 80  # what a full shuffle reads


@pytest.mark.parametrize("num_workers", [2, 4])
def test_streamed_workers_read_row_groups_of_their_own(tmp_path, monkeypatch, num_workers):
    root = write(tmp_path / "long", train=range(240), val=range(4), test=range(4))
    shrink(monkeypatch, 10, 4)
    data = make(root, batch_size=4)
    items, sampler = data.splits.train.items, data.train_dataloader().sampler
    groups = [items[position][0].group for position in sampler.positions()]
    batches = [{*groups[k : k + 4]} for k in range(0, 240, 4)]
    read = [set().union(*batches[worker::num_workers]) for worker in range(num_workers)]
    assert sum(map(len, read)) <= 48 + 3 * 2
    shuffled = make(root, streaming=False, batch_size=4).train_dataloader().sampler.positions()
    anywhere = [{k // GROUP for k in shuffled[j : j + 4]} for j in range(0, 240, 4)]
    read = [set().union(*anywhere[worker::num_workers]) for worker in range(num_workers)]
    assert sum(map(len, read)) > 48 * num_workers * 0.7


def test_streaming_works_with_repeated_augmentation_and_several_sizes(root):
    from mambavision_lab.data.augment.batch import Augment
    from mambavision_lab.data.multi_scale import RandomSizes

    numbers = order(make(root, augment=Augment(repeats=2)))
    assert numbers[::2] == numbers[1::2]
    assert len({*numbers}) == len(numbers) // 2
    data = make(root)
    data.multi_scale = RandomSizes([4, 8])
    assert order(data) == order(make(root))


def test_streamed_classes_are_counted_without_reading_an_image(root, tmp_path, monkeypatch):
    monkeypatch.setattr(ParquetFile, "read_group", None)
    assert count_hf_classes(str(root), None, None, None, True) == 2
    names = write(tmp_path / "names", datasets.Value("string"), train=range(9))
    assert count_hf_classes(str(names), None, "kind", None, True) == 2
    monkeypatch.setattr(ParquetFile, "read_column", None)
    assert count_hf_classes(str(root), None, None, None, True) == 2


def test_streaming_retries_what_cannot_be_fetched(root, monkeypatch, refusal):
    memory = fsspec.filesystem("memory")
    memory.pipe("/hf/test.parquet", (root / "test.parquet").read_bytes())
    split = ParquetSplit(["memory://hf/test.parquet"])
    image = split.images("img")[7]
    assert str(image) == "memory://hf/test.parquet row 7"
    tries, read, failures = itertools.count(1), type(memory)._open, 3

    def failing(*args, **options):
        if next(tries) <= failures:
            raise ConnectionError("no route to host")
        return read(*args, **options)

    monkeypatch.setattr(type(memory), "_open", failing)
    assert image.read()
    failures, tries = 4, itertools.count(1)
    message = refusal(split.images("img")[0].read)
    assert message == (
        "memory://hf/test.parquet: row group 0 cannot be fetched, in 4 tries (no route to host); see "
        "that the network answers, then resume"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"check_files": True}, "data.streaming=true: data.check_files=true reads all images"),
        ({"cache": "memory"}, "data.streaming=true: data.cache=memory reads all images"),
        ({"sampler": "balanced"}, "data.streaming=true: data.sampler=balanced takes images"),
        ({"image_column": "kind"}, "data.image_column=kind, but the columns are img, kind"),
        ({"label_column": "breed"}, "data.label_column=breed, but the columns are img, kind"),
        ({"root": "/no/such"}, "data.root=/no/such: cannot be opened (Couldn't find any data"),
    ],
)
def test_streaming_refuses_in_one_line(root, refusal, settings, message):
    assert message in refusal(lambda: make(**({"root": root} | settings)).splits)


def test_streaming_refuses_other_files_and_names_damaged_ones(root, tmp_path, refusal):
    text = tmp_path / "text"
    text.mkdir()
    (text / "train.csv").write_text("img,kind\na,0\n")
    assert "is no data set of parquet files" in refusal(lambda: make(text))
    datasets.DatasetDict(train=table(range(8))).save_to_disk(tmp_path / "saved")
    assert "is a folder of save_to_disk" in refusal(lambda: make(tmp_path / "saved"))
    short = write(tmp_path / "short", train=range(20), test=range(20, 40))
    path = short / "test.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    message = refusal(lambda: make(short))
    assert message.startswith(f"{path}: is no parquet file, or damaged: the footer cannot be read")
    path.write_bytes(whole[:4] + bytes(96) + whole[100:])
    message = refusal(lambda: [*make(short).splits.test])
    assert message.startswith(f"{path}: row group 0 cannot be read (")
    assert message.endswith("; see that the file is whole")
    parquet.write_table(parquet.read_table(root / "test.parquet").drop(["kind"]), path)
    message = refusal(lambda: make(short))
    assert message == f"{path}: has no column kind but img; wanted the same columns in all files"


def test_streaming_warns_of_rows_that_are_sorted_by_class(tmp_path, caplog):
    root = write(tmp_path / "mixed", train=range(60))
    _ = make(root).splits
    assert "sorted by class" not in caplog.text
    root = write(tmp_path / "sorted", train=[*range(0, 60, 2), *range(1, 60, 2)])
    _ = make(root).splits
    assert "the rows are sorted by class, and data.streaming=true mixes only" in caplog.text


def test_streaming_warns_of_workers_that_share_no_row_groups(root, caplog):
    make(root, num_workers=3)
    assert "data.num_workers=3: does not divide 8" in caplog.text
