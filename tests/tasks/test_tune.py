"""Tuning prints values and a picture, and leaves everything as it was."""

import functools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from composing import check

from mambavision_lab.config.tune_checks import check_tune
from mambavision_lab.data.synthetic import SyntheticDataModule
from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.tasks import tune as task


@pytest.fixture
def parts(make_net, make_trainer):
    """A trainer, a classifier and data for the toy network."""

    def make(**options):
        data = SyntheticDataModule(
            image_size=16, in_chans=2, num_classes=3, mean=[0.5], std=[0.5], batch_size=8,
            num_train=40, num_val=8, num_test=8,
        )  # fmt: skip
        optimizer = functools.partial(torch.optim.SGD, lr=0.1)
        classifier = ImageClassifier(make_net(), num_classes=3, optimizer=optimizer, **options)
        trainer = make_trainer(max_epochs=-1, check_val_every_n_epoch=2**31)
        return trainer, classifier, data

    return make


@pytest.fixture
def found(monkeypatch):
    """Let Lightning's tuner find these losses at rates that double from 0.01."""

    def set_to(*losses):
        steps = np.arange(1, len(losses) + 1)
        biased = (
            np.array(losses) * (1 - 0.98**steps) / (1 - 0.98 ** (steps + 1))
        )  # as Lightning's are
        results = {"lr": list(0.01 * 2.0 ** (steps - 1)), "loss": list(biased)}
        tuner = SimpleNamespace(lr_find=lambda *_, **__: SimpleNamespace(results=results))
        monkeypatch.setattr(task, "_SKIPPED", 0)
        monkeypatch.setattr(task, "Tuner", lambda _: tuner)

    return set_to


def run(name, parts, folder):
    task.tune(SimpleNamespace(tune=name), *parts, folder)


def test_range_test_prints_a_rate_and_leaves_the_weights(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(task, "_NUM_STEPS", 40)
    trainer, classifier, data = parts()
    before = {name: x.clone() for name, x in classifier.state_dict().items()}
    run("lr", (trainer, classifier, data), tmp_path)
    rate = float(re.search(r"give optimizer\.lr=(\S+)", capsys.readouterr().out)[1])
    assert 1e-7 < rate < 1
    assert (tmp_path / "tune_lr.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["tune_lr.png"]  # no checkpoint is left
    assert all(torch.equal(x, before[name]) for name, x in classifier.state_dict().items())
    assert trainer.global_step == 0


def test_found_rate_is_that_of_the_batch_that_it_is_meant_for(parts, tmp_path, found, capsys):
    found(3.0, 3.0, 3.0, 3.0, 3.0, 2.0, 1.0, 3.0)
    run("lr", parts(scale_lr="linear", lr_batch_size=16, batch_size=8), tmp_path)
    assert "give optimizer.lr=0.64" in capsys.readouterr().out  # 0.32 in batches of 8


def test_steepest_fall_is_that_per_decade():
    rates = np.logspace(-6, 0, 61)
    losses = 2 - np.tanh(4 * (np.log10(rates) + 2)) + 1e3 * (rates > 0.5)
    assert rates[task.find_steepest(rates, losses)] == pytest.approx(1e-2)
    losses[-3:] = np.nan
    assert rates[task.find_steepest(rates, losses)] == pytest.approx(1e-2)
    assert task.find_steepest(rates, rates) is None
    assert task.find_steepest(rates[:1], losses[:1]) is None


def test_loss_that_falls_nowhere_is_refused(parts, tmp_path, found, refusal):
    found(1.0, 2.0, 3.0, 4.0)
    assert "the loss falls at no rate" in refusal(lambda: run("lr", parts(), tmp_path))


def test_epoch_without_a_whole_step_is_refused(parts, tmp_path, make_trainer, monkeypatch, refusal):
    monkeypatch.setattr(task, "_NUM_STEPS", 2)
    _, classifier, data = parts()
    trainer = make_trainer(max_epochs=-1, check_val_every_n_epoch=2**31, limit_train_batches=3)
    trainer.accumulate_grad_batches = 4
    message = refusal(lambda: run("lr", (trainer, classifier, data), tmp_path))
    assert message.startswith("tune=lr: 0 steps could be measured")
    assert "raise trainer.limit_train_batches" in message


def test_tuning_that_the_machine_does_not_allow_is_refused(make_trainer, refusal):
    trainer = make_trainer()
    assert "train/images_per_s" in refusal(lambda: task.check_tunable("batch_size", trainer))
    task.check_tunable("lr", trainer)
    several = SimpleNamespace(world_size=2)
    assert "there are 2; give trainer.devices=1" in refusal(
        lambda: task.check_tunable("lr", several)
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_largest_batch_that_fits_is_printed(parts, tmp_path, make_trainer, capsys):
    _, classifier, data = parts()
    trainer = make_trainer(max_epochs=-1, check_val_every_n_epoch=2**31, accelerator="gpu")
    run("batch_size", (trainer, classifier, data), tmp_path)
    out = capsys.readouterr().out
    assert "the 40 training images fit into one batch" in out
    assert "give data.batch_size=64" in out


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tune": "foo"}, "tune=foo: no such choice; choose lr or batch_size, or null"),
        ({"tune": "lr", "ckpt_path": "last.ckpt"}, "give resume=weights to tune one that starts"),
        ({"tune": "lr", "trainer": {"devices": 2}}, "tune=lr: runs in one process; give"),
        ({"tune": "lr", "trainer": {"devices": [0, 1]}}, "tune=lr: runs in one process; give"),
        ({"tune": "batch_size", "trainer": {"accelerator": "cpu"}}, "on the CPU compare"),
    ],
)
def test_tuning_that_cannot_work_is_refused_at_once(values, named, refusal):
    assert named in refusal(lambda: check_tune(values))


def test_tuning_starts_from_weights():
    check_tune({"tune": "lr", "ckpt_path": "best.ckpt", "resume": "weights"})
    check_tune({"tune": None, "ckpt_path": "best.ckpt"})


def test_sweep_is_not_tuned(refusal):
    assert "tune=lr: tunes a single run" in refusal(lambda: check("train", "-m", "tune=lr"))
