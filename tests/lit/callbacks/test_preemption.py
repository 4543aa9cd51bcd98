"""A signal ends a training after its step, with a checkpoint of that very step."""

import os
import signal
import time

import pytest
import torch
from lightning.pytorch import Callback

from mambavision_lab.launch.distributed import signals
from mambavision_lab.launch.distributed.signals import Stopped, stopping_on_signals
from mambavision_lab.lit.callbacks.newest_checkpoint import NewestCheckpoint
from mambavision_lab.lit.callbacks.preemption import Preemption

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


class SendSignal(Callback):
    """Send this process a signal in a hook at a step, some times."""

    def __init__(self, number, hook, step, times=1):
        self.number, self.step, self.times = number, step, times
        setattr(self, hook, self.send)

    def send(self, trainer, *_):
        if trainer.global_step == self.step and not trainer.sanity_checking:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.fixture
def fit(make_classifier, make_loader, make_trainer, tmp_path):
    """Train the toy network, three batches an epoch, in two epochs; returns the step of last.ckpt."""

    def run(*callbacks, **options):
        callbacks = [*callbacks, NewestCheckpoint(tmp_path), Preemption()]
        options = {"max_epochs": 2, "enable_checkpointing": True} | options
        trainer = make_trainer(callbacks=callbacks, default_root_dir=tmp_path, **options)
        with stopping_on_signals():
            trainer.fit(make_classifier(), make_loader(), make_loader())

    return run


def last_step(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)]
)
def test_signal_in_a_step_stops_after_it_with_its_checkpoint(
    fit, tmp_path, capfd, monkeypatch, number, status
):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        fit(SendSignal(number, "on_before_optimizer_step", step=1))
    assert stopped.value.code == status
    assert last_step(tmp_path) == 2
    out, err = capfd.readouterr()
    assert f"step 2 is saved; continue: python train.py resume={tmp_path}" in out
    assert f"{signal.Signals(number).name}: stopping after this step" in err
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [
        ("on_validation_start", 3, 3),  # which is finished
        ("on_train_epoch_end", 3, 3),
        ("on_train_epoch_end", 6, 6),  # the last: only the final test is left
    ],
)
def test_signal_at_an_epochs_end_stops_behind_it(fit, tmp_path, hook, step, saved):
    with pytest.raises(Stopped):
        fit(SendSignal(signal.SIGTERM, hook, step))
    assert last_step(tmp_path) == saved


def test_signal_before_the_first_step_promises_nothing(fit, tmp_path, capsys):
    with pytest.raises(Stopped):
        fit(SendSignal(signal.SIGTERM, "on_train_epoch_start", step=0))
    assert (
        f"no step is saved yet; continue: python train.py resume={tmp_path}"
        in capsys.readouterr().out
    )


def test_signal_within_an_accumulation_finishes_the_step(fit, tmp_path):
    with pytest.raises(Stopped):
        fit(
            SendSignal(signal.SIGTERM, "on_before_backward", step=2),
            accumulate_grad_batches=2,
        )
    assert last_step(tmp_path) == 3


def test_signal_that_is_sent_twice_at_once_is_one_request(fit, tmp_path):
    with pytest.raises(Stopped):
        fit(SendSignal(signal.SIGTERM, "on_before_optimizer_step", step=1, times=2))
    assert last_step(tmp_path) == 2


def test_second_signal_stops_at_once_and_saves_nothing(fit, tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(clock))
    started = time.perf_counter()
    with pytest.raises(Stopped):
        fit(SendSignal(signal.SIGTERM, "on_before_optimizer_step", step=1, times=2))
    assert time.perf_counter() - started < 30
    assert not (tmp_path / "last.ckpt").exists()


def test_requeue_signal_of_slurm_reaches_lightning_after_the_step(fit, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    seen = []

    class Requeue(Callback):
        """Stand in for the handler that Lightning installs."""

        def on_fit_start(self, trainer, *_):
            signal.signal(signal.SIGUSR1, lambda *_: seen.append(trainer.global_step))

    before = signal.getsignal(signal.SIGUSR1)
    try:
        fit(Requeue(), SendSignal(signal.SIGUSR1, "on_before_optimizer_step", step=1, times=2))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [2]
