import itertools
import time

import pytest
from torch.utils.data import TensorDataset

from mambavision_lab.data.batch_loader import BatchLoader
from mambavision_lab.lit.callbacks import throughput
from mambavision_lab.lit.callbacks.throughput import Throughput


def test_throughput_counts_images_over_real_time(make_classifier, make_loader, make_trainer):
    classifier, trainer = make_classifier(), make_trainer(max_epochs=1, callbacks=[Throughput()])
    trainer.fit(classifier, make_loader(), make_loader())
    assert trainer.callback_metrics["train/images_per_s"] > 0
    (metrics,) = trainer.test(classifier, make_loader(), verbose=False)
    assert metrics["test/images_per_s"] > 0


def test_throughput_leaves_out_validation(
    make_classifier, make_loader, make_trainer, history, monkeypatch
):
    # A second passes between any two looks at the clock: before, during and after validation.
    ticks = itertools.count()
    monkeypatch.setattr(throughput, "_now", lambda trainer: float(next(ticks)))
    classifier = make_classifier()
    trainer = make_trainer(max_epochs=2, callbacks=[Throughput()], logger=history)
    trainer.fit(classifier, make_loader(10, batch_size=4), make_loader(7))
    assert history["train/images_per_s"] == pytest.approx([10 / 2, 10 / 2])
    (metrics,) = trainer.test(classifier, make_loader(9, batch_size=4), verbose=False)
    assert metrics["test/images_per_s"] == pytest.approx(9)


class Slow(TensorDataset):
    """4 ms an image."""

    def __getitem__(self, index):
        time.sleep(0.004)
        return super().__getitem__(index)


@pytest.mark.parametrize(("kind", "seconds"), [(TensorDataset, 0), (Slow, 0.04)])
def test_throughput_logs_the_share_of_time_waited_for_data(
    make_classifier, make_loader, make_trainer, kind, seconds
):
    loader = BatchLoader(kind(*make_loader(10).dataset.tensors), batch_size=5)
    trainer = make_trainer(max_epochs=1, callbacks=[Throughput()])
    trainer.fit(make_classifier(), loader, make_loader(7))
    share = trainer.callback_metrics["train/data_wait"].item()
    assert 0 < share < 1
    assert share * 10 / trainer.callback_metrics["train/images_per_s"].item() >= seconds


def test_throughput_of_another_loader_has_no_wait(make_classifier, make_loader, make_trainer):
    trainer = make_trainer(max_epochs=1, callbacks=[Throughput()])
    trainer.fit(make_classifier(), make_loader(), make_loader())
    assert "train/data_wait" not in trainer.callback_metrics
