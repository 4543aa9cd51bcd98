import json
import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mambavision_lab.runs.folder import is_resuming, open_run_folder, write_json


@pytest.fixture
def log_dir(tmp_path):
    return tmp_path / "logs"


def test_run_folder_holds_config_overrides_provenance_and_snapshot(compose, log_dir):
    cfg = compose("train", "seed=5", "model.depth=6")
    folder = open_run_folder(cfg, is_latest=False)
    assert folder == log_dir / "run"
    assert OmegaConf.load(folder / "config.yaml") == OmegaConf.to_container(cfg, resolve=True)
    assert OmegaConf.load(folder / "overrides.yaml") == ["seed=5", "model.depth=6"]
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["seed"] == 5
    assert (folder / "snapshot" / "snapshot.yaml").is_file()
    assert {path.name for path in folder.iterdir()} == {
        ".running",
        "config.yaml",
        "differences.json",
        "overrides.yaml",
        "provenance.json",
        "snapshot",
    }
    differences = json.loads((folder / "differences.json").read_text())
    assert differences == [["model.depth", "4", "6"], ["seed", "42", "5"]]
    assert provenance["command"].endswith(" train.py seed=5 model.depth=6")
    assert [path.name for path in log_dir.iterdir()] == ["run"]


def test_run_folder_latest_points_at_the_newest_run(compose, log_dir):
    for name in ("one", "two"):
        cfg = compose("train", f"paths.output_dir={log_dir}/train/{name}")
        open_run_folder(cfg, is_latest=True)
        assert (log_dir / "latest").is_symlink()
        assert (log_dir / "latest").readlink().as_posix() == f"train/{name}"
    assert {path.name for path in log_dir.iterdir()} == {"latest", "train"}


def test_run_folder_latest_is_there_for_a_first_run_that_lies_elsewhere(compose, log_dir, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    open_run_folder(compose("train", f"paths.output_dir={elsewhere}"), is_latest=True)
    assert (log_dir / "latest").resolve() == elsewhere


@pytest.mark.parametrize("target", ["gone", "train"])
def test_run_folder_latest_replaces_links_that_are_old_or_broken(compose, log_dir, target):
    (log_dir / "train").mkdir(parents=True)
    (log_dir / "latest").symlink_to(target)
    open_run_folder(compose("train"), is_latest=True)
    assert (log_dir / "latest").resolve() == log_dir / "run"
    assert not list((log_dir / "train").iterdir())


def test_run_folder_leaves_a_real_folder_called_latest_alone(compose, log_dir):
    (log_dir / "latest").mkdir(parents=True)
    (log_dir / "latest" / "mine.txt").write_text("keep")
    open_run_folder(compose("train"), is_latest=True)
    assert not (log_dir / "latest").is_symlink()
    assert [path.name for path in (log_dir / "latest").iterdir()] == ["mine.txt"]


def test_run_folder_without_links_is_written_and_says_so(compose, log_dir, monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError("a required privilege is not held by the client")  # Windows's words

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with caplog.at_level(logging.WARNING):
        folder = open_run_folder(compose("train"), is_latest=True)
    assert (folder / "provenance.json").is_file()
    assert [path.name for path in log_dir.iterdir()] == ["run"]
    assert "latest does not point at this run: a required privilege" in caplog.text


def test_run_that_starts_from_its_own_checkpoint_resumes_through_a_link_too(compose, tmp_path):
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("disk")
    for folder, checkpoint, expected in (
        ("linked/run", "disk/run/checkpoints/last.ckpt", True),
        ("linked/run", "linked/run/checkpoints/last.ckpt", True),
        ("linked/run", "disk/other/checkpoints/last.ckpt", False),
    ):
        cfg = compose("train", f"paths.output_dir={tmp_path / folder}")
        cfg.ckpt_path = str(tmp_path / checkpoint)
        assert is_resuming(cfg) == expected


def test_write_json_replaces_the_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "metrics.json"
    for content in ({"a": 1.5}, {"b": [None, True]}):
        write_json(content, path)
        assert json.loads(path.read_text()) == content
    assert list(tmp_path.glob(".*")) == []
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert json.loads(path.read_text()) == {"b": [None, True]}
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["metrics.json"]


def test_differences_are_found_whatever_the_job_is_called(compose, log_dir):
    folder = open_run_folder(compose("train", "hydra.job.name=mine", "seed=5"), is_latest=False)
    assert json.loads((folder / "differences.json").read_text()) == [["seed", "42", "5"]]
