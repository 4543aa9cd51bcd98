"""A run that was broken ends with the bits of the unbroken one, through the command as a user gives it."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from mambavision_lab.metrics import is_speed

ROOT = Path(__file__).parents[2]
TOY = (
    "trainer=cpu trainer.max_epochs=2 trainer.accumulate_grad_batches=2 trainer.log_every_n_steps=1 "
    "scheduler.warmup_epochs=0.5 data.num_train=56 data.num_val=8 data.num_test=8 data.batch_size=8 "
    "data.image_size=8 model.stem_dim=8 model.embed_dim=16 model.depth=2 model.num_heads=2 "
    "model.drop_path_rate=0.2 callbacks=ema ~callbacks.predictions"
).split()


class StopOnce(Callback):
    """Send SIGTERM while a step is computed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer, *_):
        if trainer.global_step == self.step and not trainer.fit_loop.restarting:
            self.step = -1
            os.kill(os.getpid(), signal.SIGTERM)


def results_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if not is_speed(k)} for row in csv.DictReader(file)]
    metrics = json.loads((folder / "metrics.json").read_text())
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    weights = [checkpoint[name] for name in ("state_dict", "current_model_state")]
    return rows, {k: v for k, v in metrics.items() if not is_speed(k)}, weights


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_stopped_run_resumes_with_the_bits_of_the_unbroken_one(call, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert call("train", *TOY, f"hydra.run.dir={unbroken}")[0] == 0
    stop = ["+callbacks.stop._target_=test_interrupted_runs.StopOnce", "+callbacks.stop.step=5"]
    status, out, _ = call("train", *TOY, *stop, f"hydra.run.dir={broken}")
    assert status == 143
    assert f"step 6 is saved; continue: python train.py resume={broken}" in out
    status, out, err = call("train", f"resume={broken}", "callbacks.stop.step=-1")
    assert status == 0, err
    (rows, metrics, weights), wanted = results_of(broken), results_of(unbroken)
    assert rows == wanted[0]
    assert metrics == wanted[1]
    for part, wanted_part in zip(weights, wanted[2], strict=True):
        assert all(torch.equal(part[name], value) for name, value in wanted_part.items())


@pytest.mark.slow
@pytest.mark.parametrize("part", ["kills", "signals", "ranks", "corruption"])
def test_promises_hold_under_fault_injection(part):
    command = [sys.executable, "-m", "benchmarks.torture", part, "--count", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
