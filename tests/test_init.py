"""`mambavision-init` lays out a project that composes, trains and passes its own tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from composing import check

from mambavision_lab.init.__main__ import lay_out, main

SRC = Path(__file__).parents[1] / "src"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A new project whose package can be imported."""
    folder = tmp_path / "stripes_project"
    lay_out(folder)
    monkeypatch.syspath_prepend(folder / "src")
    monkeypatch.setenv("MAMBAVISION_ROOT", str(folder))
    return folder


def test_a_new_projects_configs_compose_beside_ours(project):
    command = ["--config-dir", str(project / "configs"), "experiment=first"]
    assert check("train", *command) == [["experiment=first"]]
    assert check("train", *command, "model=mambavision_nano", "data=digits")
    searched = f"hydra.searchpath=[file://{project}/configs]"
    assert check("train", searched, "data=stripes", "model=small_convnet")


def test_every_file_of_a_new_project_is_filled_in(project):
    files = [path for path in project.rglob("*") if path.is_file()]
    assert {"Makefile", "README.md", ".gitignore", "data.py", "test_project.py"} <= {
        path.name for path in files
    }
    for path in files:
        assert "[[" not in path.read_text()
        assert path.suffix != ".j2"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my-project", "wanted letters, digits and _"),
        ("class", "wanted letters, digits and _"),
        ("json", "is the name of a package that is installed"),
        ("taken", "exists already"),
    ],
)
def test_a_bad_folder_is_refused(tmp_path, monkeypatch, capsys, name, why):
    (tmp_path / "taken").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([name])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("def (", "line 1: invalid syntax; correct its Python"),
        ("pass", "has no 'SmallConvNet'"),
    ],
)
def test_a_class_that_cannot_be_read_is_refused(project, refusal, line, why):
    (project / "src" / "stripes_project" / "model.py").write_text(line)
    command = ["--config-dir", str(project / "configs"), "experiment=first"]
    assert why in refusal(lambda: check("train", *command))


def test_a_config_behind_one_of_ours_is_refused(project, refusal):
    behind = project / "configs" / "data" / "cifar10.yaml"
    behind.write_text("_target_: stripes_project.data.StripesDataModule")
    message = refusal(lambda: check("train", "--config-dir", str(project / "configs")))
    assert message.startswith(f"{behind}: would not be read")


def test_a_config_before_one_of_ours_is_announced(tmp_path, capsys):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]")
    (tmp_path / "optimizer" / "adamw.yaml").write_text(
        "{_target_: torch.optim.adamw.AdamW, _partial_: true, lr: 0.5}"
    )
    check("train", "--config-path", str(tmp_path), "--config-name", "mine")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path}: used in place of the package's: optimizer/adamw")


def test_the_next_steps_install_what_its_tests_need(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["shapes"])
    out = capsys.readouterr().out
    assert "pip install -e '.[dev]'" in out
    assert "pip install -e '.[dev]'" in (tmp_path / "shapes" / "README.md").read_text()


@pytest.mark.slow
def test_a_new_projects_own_tests_pass(project):
    path = os.pathsep.join([str(SRC), str(project / "src")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
