import itertools

import pytest

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
