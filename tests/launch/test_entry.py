"""What a command does once it was found to be right: jobs, exit statuses, messages."""

import csv
import errno
import json

import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mambavision_lab.errors import ConfigError, ReportedError


def test_jobs_keep_deletions(command):
    seen = []
    assert command(lambda cfg: seen.append([*cfg.callbacks]), "-m", "~callbacks.throughput") == 0
    assert "checkpoint" in seen[0]
    assert "throughput" not in seen[0]


def test_sweep_runs_every_job_with_its_own_values(command):
    seen = []
    status = command(
        lambda cfg: seen.append((cfg.seed, cfg.optimizer.lr)), "-m", "seed=0,1", "optimizer=sgd"
    )
    assert status == 0
    assert seen == [(0, 0.1), (1, 0.1)]


def test_sweep_with_one_wrong_job_starts_none(command, tmp_path, capsys):
    seen = []
    assert command(lambda cfg: seen.append(cfg), "-m", "trainer.max_epochs=1,abc") == 2
    assert seen == []
    assert capsys.readouterr().err.startswith("error: trainer.max_epochs=abc: wanted int")
    assert not (tmp_path / "logs").exists()


def test_task_that_refuses_ends_in_one_line_and_status_2(command, capsys):
    def task(cfg):
        raise ConfigError("data.root=x: too\nbad")

    assert command(task) == 2
    assert capsys.readouterr().err.splitlines() == ["error: data.root=x: too bad"]


@pytest.mark.parametrize(
    ("error", "status", "wanted"),
    [
        (OSError(errno.ENOSPC, "No space left", "x"), 1, "No space left: 'x'; free some space"),
        (FloatingPointError("train/loss is nan"), 1, "train/loss is nan"),
        (MisconfigurationException("no such key"), 2, "no such key"),
    ],
)
def test_known_failure_is_one_line_and_its_traceback_in_the_log(
    command, tmp_path, capsys, error, status, wanted
):
    def task(cfg):
        raise error

    assert command(task, f"hydra.run.dir={tmp_path}/run") == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert wanted in line
    log = (tmp_path / "run" / "train.log").read_text()
    assert "in task" in log
    assert type(error).__name__ in log


def test_sweep_continues_after_jobs_that_fail_and_ends_in_status_1(command, tmp_path, capsys):
    seen = []

    def task(cfg):
        seen.append(cfg.seed)
        if cfg.seed == 1:
            raise ConfigError("data.root=x: too bad")
        if cfg.seed == 3:
            raise OSError(errno.ENOSPC, "No space left")
        if cfg.seed == 2:
            raise ReportedError(1, "MemoryError: too little")  # as workers that failed end it

    assert command(task, "-m", "seed=0,1,2,3", f"hydra.sweep.dir={tmp_path}/sweep") == 1
    assert seen == [0, 1, 2, 3]
    reasons = [
        json.loads(path.read_text()).get("reason") for path in sorted(tmp_path.rglob("job.json"))
    ]
    assert reasons == [None, "data.root=x: too bad", "MemoryError: too little", None]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: job 1: data.root=x: too bad"
    assert lines[-1].startswith("error: 3 of 4 jobs failed; see ")
    assert not any("Traceback" in line for line in lines)
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert reasons[:2] == ["", "data.root=x: too bad"]
    assert reasons[3].startswith("[Errno 28] No space left; free some space")


def test_task_that_fails_keeps_its_traceback(command):
    def task(cfg):
        raise ZeroDivisionError("inside the task")

    with pytest.raises(ZeroDivisionError, match="inside the task"):
        command(task)
