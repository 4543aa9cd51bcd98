"""How a training run starts from a checkpoint; whole runs are tests of the command and of the callbacks."""

import csv
import json
import re

import pytest
import torch
from composing import _registered, compose  # noqa: F401

from mambavision_lab.runs.settings import settings_of
from mambavision_lab.tasks import train as task

EPOCHS = {"ready": 2, "started": 2, "processed": 2, "completed": 2}
LOOPS = {
    "epoch_progress": {"current": EPOCHS},
    "epoch_loop.batch_progress": {"current": {"ready": 4, "processed": 4}, "is_last_batch": True},
}


@pytest.fixture
def start(compose, tmp_path, monkeypatch):  # noqa: F811
    """Start a run from a checkpoint of two epochs; returns the config that its processes would get."""
    path = tmp_path / "last.ckpt"
    monkeypatch.setattr(task, "run_together", lambda work, cfg, prepare: cfg)

    def call(*overrides, **entries):
        settings = settings_of(compose("train", "optimizer.lr=0.5"))
        checkpoint = {
            "state_dict": {},
            "hyper_parameters": {"settings": settings},
            "optimizer_states": [],
            "global_step": 8,
            "epoch": 2,
            "loops": {"fit_loop": LOOPS},
        } | entries
        torch.save({k: v for k, v in checkpoint.items() if v is not None}, path)
        return task.train(compose("train", f"ckpt_path={path}", *overrides))

    return call


def test_resume_takes_the_seed_that_is_not_given(start):
    assert start("optimizer.lr=0.5", "seed=null").seed == 42


def test_start_from_weights_takes_any_settings(start):
    cfg = start("resume=weights", "optimizer=sgd", "seed=null", "trainer.max_epochs=2")
    assert cfg.seed is not None


@pytest.mark.parametrize(
    ("overrides", "entries", "named"),
    [
        ([], {}, "optimizer.lr=0.001: "),
        (["optimizer.lr=0.5", "trainer.max_epochs=2"], {}, "has 2 epochs, and trainer.max_epochs=2"),
        (["optimizer.lr=0.5", "trainer.max_steps=8"], {}, "has 8 steps, and trainer.max_steps=8"),
        (["optimizer.lr=0.5"], {"optimizer_states": None}, "give resume=weights to start from them"),
    ],
)  # fmt: skip
def test_impossible_resume_is_refused(overrides, entries, named, start, refusal):
    assert named in refusal(lambda: start(*overrides, **entries))


@pytest.mark.slow
def test_average_of_weights_is_tested_as_eval_tests_it(call, tmp_path):
    run = tmp_path / "run"
    status, out, err = call(
        "train", *"data.num_train=32 data.num_val=16 data.num_test=64 data.batch_size=16".split(),
        "data.image_size=16", "trainer=cpu", "trainer.max_epochs=1", f"hydra.run.dir={run}",
        "callbacks=ema", "tta=flip",
    )  # fmt: skip
    assert status == 0, err
    assert "; test with flips" in out
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["weights"]
    assert f"({stored} weights): val/acc1 " in out
    assert "val_raw/acc1 " in out
    status, out, _ = call("eval", f"from_run={run}", f"hydra.run.dir={tmp_path / 'eval'}")
    assert status == 0
    panel = " ".join(out.replace("│", " ").split())
    assert re.search(rf"best\.ckpt, epoch 1, step 2, {stored} weights", panel)
    assert "best.ckpt, with flips" in out
    of_train, of_eval = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "eval")
    )
    assert of_train["test/loss"] == of_eval["test/loss"]


@pytest.mark.slow
def test_weights_of_two_processes_are_stored_as_they_were_validated(call, tmp_path):
    run = tmp_path / "run"
    status, _, err = call(
        "train", *"data.num_train=64 data.num_val=33 data.num_test=33 data.batch_size=16".split(),
        *"data.image_size=16 model=mambavision_micro trainer=cpu trainer.devices=2".split(),
        *"trainer.max_epochs=2 callbacks.checkpoint.monitor=val/loss callbacks.checkpoint.mode=min".split(),
        "callbacks=ema", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert status == 0, err
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {
        kind: min(float(row[key]) for row in rows if row[key])
        for kind, key in (("raw", "val_raw/loss"), ("averaged", "val/loss"))
    }
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["weights"]
    assert stored == min(losses, key=losses.__getitem__)
    final = json.loads((run / "metrics.json").read_text())["val/loss"]
    assert final == pytest.approx(losses[stored], abs=1e-6)
