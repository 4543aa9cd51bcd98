"""Losses that are not finite end a run at once, and those of other devices soon."""

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mambavision_lab.lit.callbacks.finite_loss import FiniteLoss


@pytest.fixture
def make_spoilt(make_classifier):
    """Make a classifier whose logits become NaN after some calls of its network."""

    def make(num_good: int):
        net = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
        calls = []

        def spoil(module, args, logits):
            calls.append(None)
            return logits * torch.nan if len(calls) > num_good else logits

        net.register_forward_hook(spoil)
        return make_classifier(net, optimizer=functools.partial(torch.optim.SGD, lr=0.25))

    return make


def test_training_stops_at_the_first_batch_that_is_not_finite(
    make_spoilt, make_loader, make_trainer
):
    loader = make_loader(num_images=20, shape=(2, 2, 2))  # 5 batches
    wanted = r"^train/loss in epoch 2, step 7, is nan at learning rate 0\.25; lower optimizer\.lr"
    trainer = make_trainer(max_epochs=3, log_every_n_steps=50)
    with pytest.raises(FloatingPointError, match=wanted):
        trainer.fit(make_spoilt(num_good=6), loader)
    assert trainer.global_step == 7


@pytest.mark.parametrize(
    ("phase", "wanted"),
    [
        ("validate", "^val/loss is nan; look for NaN in the weights"),
        ("test", "^test/loss is nan; look for NaN in the weights"),
    ],
)
def test_evaluation_fails_where_the_loss_is_not_finite(
    make_spoilt, make_loader, make_trainer, phase, wanted
):
    with pytest.raises(FloatingPointError, match=wanted):
        getattr(make_trainer(), phase)(make_spoilt(1), make_loader(shape=(2, 2, 2)), verbose=False)


def test_fit_stops_where_the_validation_alone_is_not_finite(make_spoilt, make_loader, make_trainer):
    loader = make_loader(num_images=8, shape=(2, 2, 2))  # 2 batches
    with pytest.raises(FloatingPointError, match=r"^val/loss in epoch 1, step 2 is nan; lower"):
        make_trainer(max_epochs=2).fit(make_spoilt(3), loader, loader)


@pytest.mark.parametrize(("every", "num_looks"), [(1, 120), (10, 12), (1000, 2)])
def test_losses_on_a_device_are_looked_at_together(monkeypatch, every, num_looks):
    looks = []

    def look(self, trainer):
        looks.append(len(self._losses))
        self._losses.clear()

    monkeypatch.setattr(FiniteLoss, "_check", look)
    callback = FiniteLoss()
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    trainer = SimpleNamespace(optimizers=[optimizer], log_every_n_steps=every, global_step=0)
    for i in range(120):
        callback.on_train_batch_start(trainer, None, None, i)
        callback.on_train_batch_end(
            trainer, None, {"loss": torch.zeros((), device="meta")}, None, i
        )
    assert len(looks) == num_looks
    assert set(looks) == {min(every, 50)}
