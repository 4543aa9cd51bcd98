import os
from pathlib import Path

import pytest
from composing import check

from mambavision_lab.config.folder_checks import check_folders


@pytest.mark.parametrize("folder", ["run", "sweep"])
def test_run_folder_below_a_file_is_refused(tmp_path, refusal, folder):
    (tmp_path / "file").touch()
    message = refusal(lambda: check("train", f"hydra.{folder}.dir={tmp_path}/file/logs"))
    assert message == (
        f"hydra.{folder}.dir={tmp_path}/file/logs: {tmp_path}/file is not a folder; choose another "
        "folder with paths.log_dir=FOLDER"
    )


def test_run_folder_that_may_not_be_written_is_refused(tmp_path, refusal, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may all
    message = refusal(lambda: check("train", f"paths.log_dir={tmp_path}/logs"))
    assert f"{tmp_path} may not be written; choose another folder" in message


def test_checking_a_run_folder_makes_nothing(tmp_path):
    check("train", f"paths.log_dir={tmp_path}/logs")
    assert not (tmp_path / "logs").exists()


def test_relative_paths_are_refused_where_a_job_changes_the_folder(tmp_path, refusal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    chdir, photos = "hydra.job.chdir=true", ["data=image_folder", "data.num_classes=1"]
    message = refusal(lambda: check("train", chdir, *photos, "data.root=photos"))
    assert message.startswith("data.root=photos: hydra.job.chdir=true changes the folder that it")
    message = refusal(lambda: check("train", chdir, "paths.data_dir=data"))
    assert message.startswith("paths.data_dir=data: hydra.job.chdir=true")
    check("train", *photos, "data.root=photos")
    check("train", chdir, *photos, f"data.root={tmp_path}/photos")
    check("train", chdir, "model.pretrained=nvidia/MambaVision-T-1K")  # an id of the hub


def test_folders_are_not_checked_outside_a_command():
    check_folders({})
