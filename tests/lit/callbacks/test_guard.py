"""Steps that go wrong are skipped without a trace, and too many in a row end the run."""

import csv
import functools

import pytest
import torch
from lightning.pytorch import Callback
from timm.optim.lamb import Lamb
from timm.optim.lion import Lion
from torch import nn

from mambavision_lab.data.synthetic import SyntheticDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.lit import restore_point
from mambavision_lab.lit.bad_steps import FILE
from mambavision_lab.lit.callbacks import guard as guard_module
from mambavision_lab.lit.callbacks.ema import EMA
from mambavision_lab.lit.callbacks.guard import Guard
from mambavision_lab.lit.muon import muon
from mambavision_lab.lit.training_module import TrainingModule

SGD = functools.partial(torch.optim.SGD, lr=0.25, momentum=0.9, weight_decay=0.1)
OPTIMIZERS = [
    SGD,
    functools.partial(torch.optim.AdamW, lr=0.01),
    functools.partial(torch.optim.AdamW, lr=0.01, fused=True),
    *(functools.partial(make, lr=0.01) for make in (Lion, Lamb, muon)),
]


class Spoil(Callback):
    """Make the batches of some numbers bad, and record the state after each."""

    def __init__(self, batches, value=torch.nan):
        self.batches, self.value, self.states = batches, value, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if len(self.states) in self.batches:
            batch[0].fill_(self.value)

    def on_train_batch_end(self, trainer, pl_module, *_):
        state = dict(pl_module.state_dict())
        for index, values in trainer.optimizers[0].state_dict()["state"].items():
            tensors = {k: v for k, v in values.items() if isinstance(v, torch.Tensor)}
            state |= {f"{index} {key}": value for key, value in tensors.items()}
        self.states.append({key: value.clone() for key, value in state.items()})


def make_net():
    layers = [nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3)]
    return nn.Sequential(*layers)


@pytest.fixture
def fit(make_classifier, make_loader, make_trainer):
    """Train for two epochs of five batches; returns the trainer and the classifier."""

    def call(*callbacks, optimizer=SGD, ckpt_path=None, **options):
        torch.manual_seed(0)
        classifier = make_classifier(make_net(), optimizer=optimizer)
        loader = make_loader(num_images=20, shape=(2, 2, 2))
        trainer = make_trainer(**{"max_epochs": 2, **options}, callbacks=[*callbacks])
        trainer.fit(classifier, loader, ckpt_path=ckpt_path, weights_only=True)
        return trainer, classifier

    return call


def is_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.func.__name__)
def test_skipped_step_leaves_weights_optimizer_and_statistics_as_they_were(fit, optimizer):
    spoil, ema = Spoil([2, 3]), EMA(0.5)
    _, classifier = fit(Guard(max_bad_steps=2), spoil, ema, optimizer=optimizer)
    states = spoil.states
    assert is_equal(states[1], states[2])
    assert is_equal(states[1], states[3])
    assert not is_equal(states[3], states[4])
    assert all(x.isfinite().all() for x in (*states[-1].values(), *ema.average.parameters()))
    assert classifier.trainer.callback_metrics["train/loss"].isfinite()


@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_step_is_skipped_without_reading_its_flag(fit, monkeypatch, make):
    for module in (guard_module, restore_point):
        monkeypatch.setattr(module, "is_free_to_read", lambda x: False)  # as on a GPU
    spoil = Spoil([2, 3])
    optimizer = functools.partial(make, lr=0.01, fused=True)
    guard = Guard(max_bad_steps=2)
    fit(guard, spoil, optimizer=optimizer, log_every_n_steps=5)
    assert is_equal(spoil.states[1], spoil.states[3])
    assert not is_equal(spoil.states[3], spoil.states[4])
    assert guard.num_bad == 2


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_skipped_step_takes_all_its_accumulated_batches(fit, precision):
    spoil = Spoil([2])
    guard = Guard(max_bad_steps=1)
    fit(guard, spoil, accumulate_grad_batches=2, precision=precision)
    assert is_equal(
        spoil.states[1], {**spoil.states[1], **{k: spoil.states[3][k] for k in spoil.states[1]}}
    )
    assert guard.num_bad == 1


def test_run_stops_after_too_many_bad_steps_in_a_row(fit):
    spoil = Spoil([1, 3, 4, 5])
    wanted = r"^train/loss in epoch 2, step 6, is nan at learning rate 0\.25 \(2 bad steps in a row"
    with pytest.raises(FloatingPointError, match=wanted):
        fit(Guard(max_bad_steps=2), spoil)
    assert is_equal(spoil.states[2], spoil.states[4])


def test_run_stops_at_the_first_bad_step_by_default(fit):
    spoil = Spoil([6])
    wanted = r"^train/loss in epoch 2, step 7, is nan at learning rate 0\.25; lower optimizer\.lr"
    with pytest.raises(FloatingPointError, match=wanted):
        fit(spoil)
    assert all(x.isfinite().all() for x in spoil.states[-1].values())


def test_loss_far_above_its_mean_is_a_bad_step(fit):
    class Spike(Spoil):
        def on_fit_start(self, trainer, pl_module):
            pl_module.net.register_forward_hook(
                lambda net, args, logits: (
                    logits * 1e3 if len(self.states) in self.batches else logits
                )
            )

        def on_train_batch_start(self, *_):
            pass

    spike, guard = Spike([10, 30]), Guard(max_bad_steps=1, max_loss_ratio=9)
    fit(guard, spike, max_epochs=8)
    assert guard.num_bad == 1
    assert not is_equal(spike.states[9], spike.states[10])  # too early to tell
    assert is_equal(spike.states[29], spike.states[30])


def test_gradient_alone_may_be_bad(fit):
    class Overflow(Callback):
        def on_after_backward(self, trainer, pl_module):
            pl_module.net[0].weight.grad[0] = torch.inf

    with pytest.raises(ConfigError, match=r"^the gradient's norm in epoch 1, step 1, is inf"):
        fit(Overflow())


def test_bad_steps_are_listed_with_their_images(make_classifier, make_trainer, tmp_path):
    data = SyntheticDataModule(
        **{"image_size": 8, "in_chans": 1, "num_classes": 3, "mean": [0.5], "std": [0.3]},
        **{"num_train": 12, "num_val": 3, "num_test": 3, "batch_size": 4},
    )
    classifier = make_classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    seen = []

    class Indices(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(" ".join(map(str, data.batch_indices)))

    spoil = Spoil([1])
    trainer = make_trainer(max_epochs=1, callbacks=[Guard(max_bad_steps=1), Indices(), spoil])
    trainer.fit(classifier, data)
    (row,) = csv.DictReader((tmp_path / FILE).open())
    assert row["images"] == seen[1]
    assert (row["step"], row["epoch"], row["rank"], row["loss"]) == ("2", "1", "0", "nan")
    assert float(row["learning_rate"]) == 0.1
    assert 0 < float(row["weight_norm"]) < 100


def test_count_of_bad_steps_survives_a_resume(fit, tmp_path):
    trainer, _ = fit(Guard(max_bad_steps=2), Spoil([8, 9]))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    guard = Guard(max_bad_steps=2)
    with pytest.raises(FloatingPointError, match="epoch 3, step 11"):
        fit(guard, Spoil([0]), max_epochs=3, ckpt_path=tmp_path / "a.ckpt")
    assert guard.num_bad == 3


@pytest.mark.parametrize("place", ["weight", "optimizer"])
def test_checkpoint_that_is_not_finite_is_not_written(fit, tmp_path, place):
    trainer, classifier = fit()
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    before = (tmp_path / "last.ckpt").read_bytes()
    weight = classifier.net[0].weight
    spoilt = (
        weight.data if place == "weight" else trainer.optimizers[0].state[weight]["momentum_buffer"]
    )
    spoilt[0] = torch.inf
    with pytest.raises(
        FloatingPointError, match=r"not finite after step 10: no checkpoint was written"
    ):
        trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(("every", "num_looks"), [(1, 120), (10, 12), (1000, 2)])
def test_steps_on_a_device_are_looked_at_together(fit, monkeypatch, every, num_looks):
    looks = []
    monkeypatch.setattr(
        Guard, "_look", lambda self, *_: looks.append(len(self._steps)) or self._steps.clear()
    )
    guard = Guard()
    trainer = type("Trainer", (), {"optimizers": [], "log_every_n_steps": every})
    step = type("Step", (), {"is_bad": torch.zeros((), device="meta")})
    for i in range(120):
        guard._steps.append(step)
        guard.on_train_batch_end(trainer, None, None, None, i)
    assert looks == [min(every, 50)] * num_looks


@pytest.mark.parametrize("options", [{"max_bad_steps": -1}, {"max_loss_ratio": 1.0}])
def test_guard_refuses_what_cannot_be(options, refusal):
    assert refusal(lambda: Guard(**options)).startswith("guard.max_")


def test_gradients_are_clipped_as_lightning_does(fit, monkeypatch):
    _, ours = fit(gradient_clip_val=0.1)
    monkeypatch.delattr(TrainingModule, "configure_gradient_clipping")
    _, lightnings = fit(gradient_clip_val=0.1)
    monkeypatch.undo()
    _, unclipped = fit()
    assert is_equal(ours.net.state_dict(), lightnings.net.state_dict())
    assert not is_equal(ours.net.state_dict(), unclipped.net.state_dict())
