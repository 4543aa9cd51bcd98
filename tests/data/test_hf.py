"""Data sets of Hugging Face, of small folders that `datasets` writes."""

import io
import sys

import pytest
from PIL import Image

from mambavision_lab.data.create import create_datamodule

datasets = pytest.importorskip("datasets")


def encoded(k):
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (100 * (k % 2), k, 7)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def table(start, num, label=None, labels=None):
    rows = range(start, start + num)
    kinds = {"img": datasets.Image(), "kind": label or datasets.ClassLabel(names=["ant", "bee"])}
    columns = {"img": [encoded(k) for k in rows], "kind": labels or [k % 2 for k in rows]}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def root(tmp_path):
    splits = {"train": table(0, 12), "validation": table(12, 4), "test": table(16, 4)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def make(root, **settings):
    return create_datamodule("hf", root=root, **({"image_size": 8, "num_workers": 0} | settings))


def numbers(part):
    return [(int(part[k][0][1, 4, 4]), part[k][1]) for k in range(len(part))]


def test_hf_reads_every_image_with_its_label(root):
    data = make(root)
    assert (data.num_classes, data.class_names) == (2, ["ant", "bee"])
    splits = data.splits
    for part, first, last in ((splits.train, 0, 12), (splits.val, 12, 16), (splits.test, 16, 20)):
        assert numbers(part) == [(k, k % 2) for k in range(first, last)]


def test_hf_reads_parquet_and_holds_out_what_is_missing(tmp_path):
    (tmp_path / "pq").mkdir()
    table(0, 20).to_parquet(tmp_path / "pq" / "train-00000-of-00001.parquet")
    splits = make(tmp_path / "pq", val_fraction=0.2, classes=["wasp", "fly"]).splits
    assert splits.class_names == ["wasp", "fly"]
    parts = [numbers(part) for part in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [12, 4, 4]
    assert sorted(item for part in parts for item in part) == [(k, k % 2) for k in range(20)]


def test_hf_takes_a_column_of_names(tmp_path):
    names = ["cat", "ape"] * 5
    table(0, 10, datasets.Value("string"), names).save_to_disk(tmp_path / "names")
    data = make(tmp_path / "names", label_column="kind")
    assert data.class_names == ["ape", "cat"]
    assert {(k % 2, label) for k, label in numbers(data.splits.train)} == {(0, 1), (1, 0)}


def test_hf_loads_batches_in_worker_processes(root):
    data = make(root, num_workers=1, batch_size=4)
    (batch,) = data.test_dataloader()
    assert batch[1].tolist() == [0, 1, 0, 1]


def test_hf_names_a_missing_extra(root, monkeypatch, refusal):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refusal(lambda: make(root))
    assert message == ("data=hf needs datasets; install it with: pip install 'mambavision-lab[hf]'")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "breed"}, "data.label_column=breed, but the columns are img, kind"),
        ({"image_column": "kind"}, "data.image_column=kind, but the columns are img, kind"),
        ({"root": "/no/such"}, "data.root=/no/such: cannot be opened (Couldn't find any data file"),
    ],
)
def test_hf_refuses_in_one_line(root, refusal, settings, message):
    assert message in refusal(lambda: make(**({"root": root} | settings)).splits)


def test_hf_names_the_row_of_a_label_or_image_that_cannot_be_used(tmp_path, refusal):
    test = table(4, 4, labels=[0, 1, -1, 0])
    datasets.DatasetDict(train=table(0, 8), test=test).save_to_disk(tmp_path / "bad")
    message = refusal(lambda: make(tmp_path / "bad").splits)
    assert f"{tmp_path}/bad test row 2: label '-1' is unknown" in message
    empty = datasets.Dataset.from_dict(
        {"img": [{"bytes": b"no image", "path": None}] * 4, "kind": [0, 1] * 2},
        features=test.features,
    )
    datasets.DatasetDict(train=table(0, 8), test=empty).save_to_disk(tmp_path / "empty")
    data = make(tmp_path / "empty")
    message = refusal(lambda: data.splits.test[1])
    assert message.startswith(f"{tmp_path}/empty test row 1: cannot be read as an image")


def test_hf_refuses_splits_whose_classes_differ(tmp_path, refusal):
    other = table(16, 4, datasets.ClassLabel(names=["bee", "ant"]))
    datasets.DatasetDict(train=table(0, 8), test=other).save_to_disk(tmp_path / "saved")
    message = refusal(lambda: make(tmp_path / "saved"))
    assert "the test split's classes are bee, ant, and the train split's ant, bee" in message
    (tmp_path / "pq").mkdir()
    table(0, 8).to_parquet(tmp_path / "pq" / "train.parquet")
    other.to_parquet(tmp_path / "pq" / "test.parquet")
    for streaming in (False, True):
        message = refusal(lambda: make(tmp_path / "pq", streaming=streaming))  # noqa: B023
        assert "wanted the same list in the same order" in message
        assert "ant, bee" in message
        assert "bee, ant" in message


def test_hf_refuses_a_row_without_a_label_and_lists_of_labels(tmp_path, refusal):
    names = datasets.Value("string")
    table(0, 4, names, ["a", "b", None, "a"]).save_to_disk(tmp_path / "none")
    message = refusal(lambda: make(tmp_path / "none", label_column="kind"))
    assert message.startswith("train row 2: has no label")
    table(0, 4, datasets.Sequence(names), [["a"], [], ["a", "b"], ["b"]]).save_to_disk(
        tmp_path / "lists"
    )
    message = refusal(lambda: make(tmp_path / "lists", label_column="kind"))
    assert "data.label_column=kind holds lists; wanted one label in each row" in message


def test_hf_leaves_out_a_split_whose_labels_are_secret(tmp_path, caplog):
    secret = table(20, 4, labels=[-1] * 4)
    datasets.DatasetDict(train=table(0, 20), test=secret).save_to_disk(tmp_path / "some")
    splits = make(tmp_path / "some", val_fraction=0.2).splits
    assert sorted(numbers(splits.train) + numbers(splits.val) + numbers(splits.test)) == [
        (k, k % 2) for k in range(20)
    ]
    assert "the test split has no labels and is not used" in caplog.text
