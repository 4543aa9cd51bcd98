import pickle

from torchvision.datasets import CIFAR100

from mambavision_lab.data.cifar100 import CIFAR100DataModule


def test_cifar100_downloads_the_archive_and_takes_the_fine_labels(
    cifar_archive, tmp_path, image_counts
):
    _, content = cifar_archive(CIFAR100, 100)
    settings = {"image_size": 32, "in_chans": 3, "num_classes": 100, "mean": [0.5], "std": [0.25]}
    splits = CIFAR100DataModule(root=str(tmp_path / "root"), **settings).splits
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [300, 100, 400]
    assert splits.class_names == [f"thing{k}" for k in range(100)]
    assert splits.val.labels.tolist() != [0] * 100
    assert splits.val.labels.sort().values.tolist() == list(range(100))
    batch = pickle.loads((content / "test").read_bytes())
    assert splits.test.labels.tolist() == batch["fine_labels"]
    assert len(set().union(*image_counts(splits).values())) == 800


def test_cifar100_names_itself_where_it_cannot_be_downloaded(tmp_path, monkeypatch, refusal):
    monkeypatch.setattr(CIFAR100, "url", "http://127.0.0.1:9/no-server.tar.gz")
    settings = {"image_size": 32, "in_chans": 3, "num_classes": 100, "mean": [0.5], "std": [0.25]}
    message = refusal(lambda: CIFAR100DataModule(root=str(tmp_path), **settings).splits)
    assert f"data.root={tmp_path}: CIFAR100 cannot be read" in message
    assert CIFAR100.filename in message
