"""train.py resume=RUN and resume=auto: the run's own config, folder and newest good checkpoint."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mambavision_lab.launch import resume
from mambavision_lab.launch.command_line import parse_command
from mambavision_lab.runs.folder import open_run_folder, write_json

OWN = ["optimizer.lr=0.01", "seed=7"]


@pytest.fixture
def task():
    """Open the run folder as a training does; `seen` holds the configs, as plain values."""

    def run(cfg):
        open_run_folder(cfg, is_latest=False)
        run.seen.append(OmegaConf.to_container(cfg, resolve=True))

    run.seen = []
    return run


@pytest.fixture
def run_folder(command, task):
    """A run without results, with two checkpoints; returns its folder."""
    assert command(task, *OWN) == 0
    folder = Path(task.seen.pop()["paths"]["output_dir"])
    (folder / "checkpoints").mkdir()
    for age, name in enumerate(("last.ckpt", "last-1.ckpt")):
        path = folder / "checkpoints" / name
        torch.save({"state_dict": {}, "optimizer_states": []}, path)
        os.utime(path, (1000 - age, 1000 - age))
    return folder


def test_resume_continues_a_run_with_its_config_in_its_folder(command, task, run_folder, capsys):
    before = OmegaConf.to_container(OmegaConf.load(run_folder / "config.yaml"))
    assert command(task, f"resume={run_folder}", "data.num_workers=0") == 0
    (seen,) = task.seen
    checkpoint = str(run_folder / "checkpoints" / "last.ckpt")
    assert seen["ckpt_path"] == checkpoint
    assert seen["paths"]["output_dir"] == str(run_folder)
    assert seen["data"].pop("num_workers") == 0
    before["data"].pop("num_workers")
    assert seen | {"ckpt_path": None} == before
    assert f" from {checkpoint}\n" in capsys.readouterr().out


def test_resume_takes_the_newest_checkpoint_that_is_not_damaged(command, task, run_folder, capsys):
    last = run_folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1])
    assert command(task, f"resume={run_folder}") == 0
    assert task.seen[0]["ckpt_path"] == str(last.with_stem("last-1"))
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "damaged" in x]
    assert line.startswith(f"{last}: is damaged (")
    assert line.endswith("looking for an earlier one")


def test_resume_without_a_checkpoint_begins_again_in_the_folder(command, task, run_folder, capsys):
    shutil.rmtree(run_folder / "checkpoints")
    assert command(task, f"resume={run_folder}") == 0
    assert task.seen[0]["ckpt_path"] is None
    assert task.seen[0]["paths"]["output_dir"] == str(run_folder)
    assert "from the beginning: it has no good checkpoint" in capsys.readouterr().out


def test_resume_that_cannot_be_is_refused(command, task, run_folder, capsys):
    run = f"resume={run_folder}"
    for arguments, message in (
        ([run, "optimizer.lr=0.5"], "optimizer.lr=0.5: ckpt_path="),
        ([run, f"ckpt_path={run_folder}/checkpoints/last.ckpt"], "a run resumes as it is"),
        ([run, "hydra.run.dir=x"], "resumes in its folder with its config; remove"),
        ([run, f"from_run={run_folder}"], "resumes in its folder with its config; remove"),
        ([run, "-m", "seed=1,2"], "give sweep.resume=FOLDER for a sweep"),
        (["resume=/no/such"], "resume=/no/such: no such file or folder; give the folder of a run"),
        (["resume=Weights"], "resume=Weights: no such file or folder; give the folder of a run"),
    ):
        assert command(task, *arguments) == 2
        assert message in capsys.readouterr().err
    assert task.seen == []


def test_run_that_is_being_trained_is_not_resumed(command, task, run_folder, monkeypatch, capsys):
    monkeypatch.setattr(resume, "is_taken", lambda folder: True)
    assert command(task, f"resume={run_folder}") == 2
    assert "a process is training there; end it first" in capsys.readouterr().err
    assert command(task, "resume=auto", *OWN) == 0
    assert task.seen[0]["paths"]["output_dir"] != str(run_folder)


def test_resume_auto_finds_the_unfinished_run_of_the_same_config(command, task, run_folder, capsys):
    assert command(task, "resume=auto", *OWN) == 0
    assert task.seen[0]["paths"]["output_dir"] == str(run_folder)
    assert command(task, "resume=auto", *OWN, "optimizer.lr=0.02") == 0
    assert task.seen[1]["paths"]["output_dir"] != str(run_folder)
    assert "no unfinished run of this config; starting one" in capsys.readouterr().out
    (run_folder.parent / "damaged").mkdir()
    (run_folder.parent / "damaged" / "config.yaml").write_bytes(b"{{\xff")
    write_json({}, run_folder / "metrics.json")
    assert command(task, "resume=auto", *OWN) == 0
    assert task.seen[2]["ckpt_path"] is None


def test_resume_auto_begins_in_a_given_folder_and_continues_there(command, task, tmp_path):
    given = ["resume=auto", f"hydra.run.dir={tmp_path / 'mine'}"]
    for _ in range(2):
        assert command(task, *given) == 0
    (tmp_path / "mine" / "snapshot" / "checksums.sha256").unlink()  # killed while it was written
    assert command(task, *given) == 0
    assert {seen["paths"]["output_dir"] for seen in task.seen} == {str(tmp_path / "mine")}


def test_what_is_taken_of_a_checkpoint_is_not_a_run():
    for value in ("exact", "weights"):
        command = parse_command("train", ["train.py", f"resume={value}"])
        assert (command.resume, command.overrides) == (None, (f"resume={value}",))
