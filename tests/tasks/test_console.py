"""What a task prints."""

from pathlib import Path

import pytest
from task_options import TRAIN

from mambavision_lab.tasks.console import name_below, print_next_steps, print_panel, print_results


def test_brackets_in_names_are_printed(capsys):
    print_panel("train my[x]", {"folder": "logs/[y]/b"})
    print_results("run[z]", {"val/loss": 0.5}, Path("logs/[bold]/b"))
    out = capsys.readouterr().out
    assert all(
        name in out for name in ("my[x]", "logs/[y]/b", "run[z]", "run folder: logs/[bold]/b")
    )


def test_next_steps_fit_a_terminal(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for task in ("train", "predict"):
        (tmp_path / f"{task}.py").touch()
    print_next_steps(tmp_path / "logs" / "latest")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].strip() == "python predict.py from_run=logs/latest images=FOLDER"
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80


def test_next_steps_outside_a_clone_name_installed_commands(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    print_next_steps(tmp_path / "logs" / "latest")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].strip() == "mambavision-predict from_run=logs/latest images=FOLDER"
    assert lines[2].strip().startswith("mambavision-train --help")
    assert max(map(len, lines)) <= 80


def test_next_steps_name_no_command_that_refuses_a_network_of_ones_own(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    print_next_steps(tmp_path, can_predict=False)
    out = capsys.readouterr().out
    assert "predict" not in out
    assert "mambavision-eval from_run=" in out


@pytest.mark.slow
def test_next_steps_are_told_after_the_first_run_alone(call, tmp_path):
    outputs = [call("train", *TRAIN, f"hydra.run.dir={tmp_path}/{k}")[1] for k in range(2)]
    assert ["images=FOLDER" in out for out in outputs] == [True, False]


@pytest.mark.parametrize(
    ("images", "name", "shown"),
    [
        ("photos", "photos/cat/1.jpg", "cat/1.jpg"),
        ("photos/*/1.jpg", "photos/cat/1.jpg", "cat/1.jpg"),
        ("photos/cat/1.jpg", "photos/cat/1.jpg", "1.jpg"),
        ("photos/clip", "photos/clip", "clip"),
        (".", "./photos/cat/1.jpg", "photos/cat/1.jpg"),
        ("*/cat/1.jpg", "photos/cat/1.jpg", "photos/cat/1.jpg"),
    ],
)
def test_files_are_named_below_the_folder_that_was_given(
    images, name, shown, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for folder in ("cat", "clip"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    assert name_below(images, name) == shown
