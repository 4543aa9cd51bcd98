"""The average of the weights: its values, its validation, and what checkpoints hold of it."""

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from lightning.pytorch.strategies import FSDPStrategy

from mambavision_lab.lit.callbacks.best_checkpoint import BestCheckpoint, find_best
from mambavision_lab.lit.callbacks.ema import AVERAGED, EMA, KIND, RAW, with_weights
from mambavision_lab.lit.callbacks.newest_checkpoint import NewestCheckpoint


class Weights(Callback):
    """Record the weights after each step."""

    def __init__(self):
        self.history = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        state = pl_module.state_dict()
        self.history.append({name: value.clone() for name, value in state.items()})


class WithBatchNorm(torch.nn.Module):
    """Two channels of 16 x 16 pixels to three classes."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.BatchNorm1d(512), torch.nn.Linear(512, 3)
        )

    def forward(self, images):
        return self.layers(images)


@pytest.fixture
def fit(make_classifier, make_loader, make_trainer, history, tmp_path):
    """Train a network with BatchNorm, three steps an epoch; returns trainer, average and raw weights."""

    def run(*callbacks, ema=None, ckpt_path=None, loaders=None, **options):
        classifier = make_classifier(net=WithBatchNorm())
        weights, ema = Weights(), ema or EMA(0.7)
        given = [ema, weights, NewestCheckpoint(tmp_path), *callbacks]
        options = {"max_epochs": 2, "logger": history, "enable_checkpointing": True} | options
        trainer = make_trainer(callbacks=given, **options)
        loaders = loaders or (make_loader(), make_loader())
        trainer.fit(classifier, *loaders, ckpt_path=ckpt_path, weights_only=True)
        return trainer, classifier, weights.history

    return run


def load(path):
    return torch.load(path, weights_only=True)


def average(history, decays):
    """Average the recorded weights by hand, float32; counters are the last ones."""
    found = dict(history[0])
    for weights, decay in zip(history[1:], decays, strict=True):
        for name, value in weights.items():
            is_float = value.is_floating_point()
            found[name] = decay * found[name] + (1 - decay) * value if is_float else value
    return found


def assert_same(state, wanted):
    assert state.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(state[name], value, msg=name)


@pytest.mark.parametrize(
    ("ema", "decays"),
    [
        (EMA(0.27), [2 / 11, 3 / 12, 0.27, 0.27, 0.27]),
        (EMA(0.7, use_warmup=False), [0.7] * 5),
    ],
    ids=["warmup", "constant"],
)
def test_ema_equals_the_sequence_by_hand(ema, decays, fit, tmp_path):
    _, classifier, history = fit(ema=ema)
    wanted = average(history, decays)
    assert wanted["net.layers.1.num_batches_tracked"] == 6
    assert_same(classifier.state_dict(), wanted)  # after the end of training
    last = load(tmp_path / "last.ckpt")
    assert_same(last["state_dict"], wanted)
    assert_same(last["current_model_state"], history[-1])
    assert last[KIND] == AVERAGED


def test_ema_is_validated_beside_the_raw_weights(fit, make_loader, make_classifier, history):
    train, val = make_loader(), make_loader(num_images=7)
    _, classifier, weights = fit(loaders=(train, val), max_epochs=1)
    images, labels = val.dataset.tensors
    raw = make_classifier(net=WithBatchNorm())
    raw.load_state_dict(weights[-1])
    for prefix, net in (("val", classifier), ("val_raw", raw)):
        with torch.no_grad():
            logits = net.eval()(images)
        (loss,), (acc1,) = history[f"{prefix}/loss"], history[f"{prefix}/acc1"]
        assert loss == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)
        assert acc1 == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert history["val/loss"] != history["val_raw/loss"]
    assert "val_raw/num_images" not in history.values


@pytest.mark.parametrize(
    ("mode", "scores", "kind", "score"),
    [
        ("max", (0.5, 0.4), AVERAGED, "50.00%"),
        ("max", (0.4, 0.5), RAW, "50.00%"),
        ("max", (0.5, 0.5), AVERAGED, "50.00%"),
        ("min", (0.5, 0.4), RAW, "40.00%"),
    ],
)
@pytest.mark.parametrize("weights_only", [False, True])
def test_best_checkpoint_holds_the_better_kind(
    mode, scores, kind, score, weights_only, fit, tmp_path, monkeypatch
):
    best = BestCheckpoint(tmp_path, "val/acc1", mode, save_weights_only=weights_only)
    monkeypatch.setattr(
        best, "_score", lambda metrics, judge=best._score: judge(
            metrics | dict(zip(("val/acc1", "val_raw/acc1"), scores, strict=True))
        )
    )  # fmt: skip
    trainer, classifier, history = fit(best, max_epochs=1)
    words = f"best of epoch 1, step 3 ({kind} weights): val/acc1 {score}"
    assert find_best(trainer) == (str(tmp_path / "best.ckpt"), words, 1, 3)
    stored = load(tmp_path / "best.ckpt")
    kinds = {AVERAGED: classifier.state_dict(), RAW: history[-1]}
    assert stored[KIND] == kind
    assert_same(stored["state_dict"], kinds[kind])
    assert ("optimizer_states" in stored) != weights_only
    last = load(tmp_path / "last.ckpt")
    assert_same(last["state_dict"], kinds[AVERAGED])
    if not weights_only:
        for other, wanted in kinds.items():
            assert_same(with_weights(stored, other)["state_dict"], wanted)


def test_ema_without_validation_is_what_the_last_weights_are(fit):
    trainer, *_ = fit(limit_val_batches=0)
    assert find_best(trainer) == (None, "last averaged weights, step 6", 2, 6)


def test_ema_keeps_float32_beside_weights_of_lower_precision(fit, tmp_path):
    ema = EMA(0.99, use_warmup=False)
    fit(precision="bf16-true", ema=ema, limit_val_batches=0)
    last = load(tmp_path / "last.ckpt")
    assert last["current_model_state"]["net.layers.2.weight"].dtype == torch.bfloat16
    weight = last["state_dict"]["net.layers.2.weight"]
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, weight.bfloat16().float())


def test_ema_refuses_what_it_cannot_average(make_trainer, make_classifier, refusal):
    assert "wanted at least 0 and below 1" in refusal(lambda: EMA(1.0))
    trainer = make_trainer()
    trainer.strategy.__class__ = FSDPStrategy
    message = refusal(lambda: EMA().setup(trainer, make_classifier(), "fit"))
    assert "shards the weights" in message
