"""SLURM's requeue signal reaches Lightning: a checkpoint, a call of scontrol, and the run resumes."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

NUM_EPOCHS = 8
SMALL = (
    f"trainer.max_epochs={NUM_EPOCHS} scheduler.warmup_epochs=0.5 data.num_train=320 data.num_val=33 "
    "data.num_test=35 data.batch_size=16 model.stem_dim=8 model.embed_dim=32 model.depth=2 "
    "model.num_heads=2 name=requeued"
).split()

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SLURM and its signals need POSIX")


@pytest.fixture
def scontrol(tmp_path, monkeypatch) -> Path:
    """Put a command scontrol on the PATH that writes down its arguments; returns the file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "scontrol.txt"
    script = folder / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def metrics_epochs(folder: Path) -> list[int]:
    """List the epochs in which a run trained, as its metrics.csv has them."""
    path = folder / "metrics.csv"
    rows = csv.DictReader(path.read_text().splitlines() if path.is_file() else [])
    return [int(row["epoch"]) for row in rows if row.get("train/images_per_s")]


def num_steps(folder: Path) -> int:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def wait_for(
    condition: Callable[[], object], run: subprocess.Popen, seconds: float = 120.0
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_requeue_signal_saves_a_checkpoint_from_which_the_requeued_job_resumes(
    start_srun, tmp_path, scontrol
):
    runs = tmp_path / "logs" / "train" / "requeued"
    (run,) = start_srun(1, "train.py", "trainer=cpu", *SMALL)
    wait_for(lambda: any(metrics_epochs(folder) for folder in runs.glob("*")), run)
    run.send_signal(signal.SIGUSR1)
    wait_for(scontrol.is_file, run)
    run.terminate()  # as SLURM does with a job that it puts back into its queue
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 143, out
    assert scontrol.read_text() == "requeue 4242\n"
    (folder,) = runs.iterdir()
    assert (folder / "hpc_ckpt_1.ckpt").is_file()
    assert len(metrics_epochs(folder)) < NUM_EPOCHS

    (run,) = start_srun(1, "train.py", "trainer=cpu", *SMALL, SLURM_RESTART_COUNT="1")
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    assert f"restarted by srun: resuming from {folder}/checkpoints/last.ckpt" in out
    assert [*runs.iterdir()] == [folder]
    assert metrics_epochs(folder) == list(range(NUM_EPOCHS))
    assert num_steps(folder) == NUM_EPOCHS * 320 // 16
    assert "test/acc1" in json.loads((folder / "metrics.json").read_text())
    assert scontrol.read_text() == "requeue 4242\n"


@pytest.mark.slow
def test_requeue_signal_to_two_processes_at_the_same_step(start_srun, tmp_path, scontrol):
    two = ["trainer=ddp", "trainer.accelerator=cpu", *SMALL]
    two += ["+callbacks.requeue._target_=rank_probe.RequeueOnce", "+callbacks.requeue.step=53"]
    both = start_srun(2, "train.py", *two)
    wait_for(scontrol.is_file, both[0])
    for run in both:
        run.kill()
        run.communicate(timeout=60)
    assert scontrol.read_text() == "requeue 4242\n"
    for run in start_srun(2, "train.py", *two, SLURM_RESTART_COUNT="1"):
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
    (folder,) = (tmp_path / "logs" / "train" / "requeued").iterdir()
    assert metrics_epochs(folder) == list(range(NUM_EPOCHS))
    assert num_steps(folder) == NUM_EPOCHS * 320 // 16 // 2
    assert "test/acc1" in json.loads((folder / "metrics.json").read_text())
