import errno
import tempfile
from pathlib import Path

import pytest

from mambavision_lab.config.check import check_config
from mambavision_lab.config.folder_checks import check_folders


@pytest.mark.parametrize("folder", ["run", "sweep"])
def test_run_folder_below_a_file_is_refused(compose, tmp_path, refusal, folder):
    (tmp_path / "file").touch()
    cfg = compose("train", f"hydra.{folder}.dir={tmp_path}/file/logs")
    assert refusal(lambda: check_config(cfg)) == (
        f"hydra.{folder}.dir={tmp_path}/file/logs: {tmp_path}/file is not a folder; choose another "
        "folder with paths.log_dir=FOLDER"
    )


def test_run_folder_that_may_not_be_written_is_refused(compose, tmp_path, refusal, monkeypatch):
    compose("train", f"hydra.run.dir={tmp_path}/logs")
    check_folders({})
    assert not (tmp_path / "logs").exists()
    assert [*tmp_path.iterdir()] == []  # what was tried leaves nothing

    def fail(dir):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)  # root may write anywhere
    message = refusal(lambda: check_folders({}))
    assert f"{tmp_path} cannot be written (Permission denied); choose another folder" in message


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux")
def test_run_folder_where_no_folder_can_be_made_is_refused(compose, refusal):
    compose("train", "paths.log_dir=/proc/logs")
    assert "/proc cannot be written" in refusal(lambda: check_folders({}))


def test_output_that_cannot_be_written_is_refused(compose, tmp_path, refusal):
    (tmp_path / "file").touch()
    compose("train")
    check_folders({"output": f"{tmp_path}/new/model"})
    check_folders({"output": f"{tmp_path}/file"})  # whether it is overwritten is decided later
    message = refusal(lambda: check_folders({"output": f"{tmp_path}/file/model"}))
    assert message.startswith(f"output={tmp_path}/file/model: {tmp_path}/file is not a folder; ")


def test_relative_paths_are_refused_where_a_job_changes_the_folder(
    compose, tmp_path, refusal, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    compose("train", "hydra.job.chdir=true")
    wanted = (
        "data.root=photos: hydra.job.chdir=true changes the folder that it starts from; give the whole "
        "path, or leave hydra.job.chdir=false"
    )
    assert refusal(lambda: check_folders({"data": {"root": "photos"}})) == wanted
    message = refusal(lambda: check_folders({"paths": {"log_dir": "logs"}}))
    assert message.startswith("paths.log_dir=logs: hydra.job.chdir=true")
    check_folders({"data": {"root": str(tmp_path / "photos")}, "name": "photos"})
    check_folders({"model": {"pretrained": "nvidia/MambaVision-T-1K"}})  # an id of the hub
    compose("train")
    check_folders({"data": {"root": "photos"}})


def test_folders_are_not_checked_outside_a_command():
    check_folders({"data": {"root": "photos"}})
