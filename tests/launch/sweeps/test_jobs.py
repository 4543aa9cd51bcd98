"""A job of a sweep that is started again by its launcher resumes."""

import json

import pytest
import torch

from mambavision_lab.launch.sweeps.jobs import RECORD, run_recorded


@pytest.mark.parametrize(("status", "resumes"), [("running", True), ("waiting", False)])
def test_job_that_was_preempted_resumes_from_its_newest_checkpoint(
    compose, tmp_path, status, resumes
):
    folder = tmp_path / "0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"job": 0, "overrides": [], "status": status}))
    path = folder / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": {}}, path)
    started_from = run_recorded(lambda cfg: cfg.ckpt_path, compose("train"), folder)
    assert started_from == (str(path) if resumes else None)
