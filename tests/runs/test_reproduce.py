"""A run that is run again, with the training itself replaced by one that only writes metrics."""

import json
import subprocess
from pathlib import Path

import pytest

from mambavision_lab.runs import reproduce
from mambavision_lab.runs.snapshot import write_snapshot


@pytest.fixture
def old_run(compose, tmp_path):
    folder = tmp_path / "logs" / "run"
    folder.mkdir(parents=True)
    write_snapshot(compose("train"), folder)
    (folder / "metrics.json").write_text(json.dumps({"val/loss": 0.1, "test/images_per_s": 5}))
    return folder


@pytest.fixture
def train(monkeypatch):
    """Let a training write these metrics, or end with this status; returns its commands."""

    def replace(metrics=None, status=0):
        commands = []

        def run(command):
            commands.append(command)
            if metrics is not None:
                folder = Path(command[-1].partition("=")[2].strip("'"))
                folder.mkdir()
                (folder / "metrics.json").write_text(json.dumps(metrics))
            return subprocess.CompletedProcess(command, status)

        monkeypatch.setattr(reproduce.subprocess, "run", run)
        return commands

    return replace


def status_of(*arguments):
    with pytest.raises(SystemExit) as stop:
        reproduce.main([str(argument) for argument in arguments])
    return stop.value.code


def test_equal_metrics_give_status_0_whatever_the_speeds(old_run, train, capsys):
    commands = train({"val/loss": 0.1, "test/images_per_s": 7})
    assert status_of(old_run, "seed=4") == 0
    (command,) = commands
    assert command[-3:-1] == [f"from_run={old_run}", "seed=4"]
    assert command[-1].startswith(f"hydra.run.dir='{old_run}-reproduced-")
    assert "reproduced: every metric is the same" in capsys.readouterr().out


@pytest.mark.parametrize("metrics", [{"val/loss": 0.1 + 1e-12}, {}])
def test_other_metrics_give_status_1(old_run, train, capsys, metrics):
    train(metrics)
    assert status_of(old_run) == 1
    assert "not the same metrics" in capsys.readouterr().out


def test_what_cannot_be_reproduced_is_refused_in_one_line(old_run, train, tmp_path, capsys):
    train(status=3)
    (tmp_path / "bare").mkdir()
    refused = {
        old_run: "the run ended with status 3; see above",
        tmp_path / "absent": "no such file or folder",
        tmp_path / "bare": "no run folder around it",
    }
    for run, named in refused.items():
        assert status_of(run) == 2
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
    (old_run / "metrics.json").unlink()
    assert status_of(old_run) == 2
    assert "has no metrics.json; wanted a run that was finished" in capsys.readouterr().err
