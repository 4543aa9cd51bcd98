"""Jobs side by side take devices of their own."""

import os
import tempfile

import pytest
import torch

from mambavision_lab.launch.sweeps import device_lock
from mambavision_lab.launch.sweeps.device_lock import take_devices


@pytest.fixture
def gpus(monkeypatch):
    """Let torch count this many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)

    return pretend


@pytest.fixture
def as_another_process(monkeypatch, tmp_path):
    """Forget what this process holds, without letting go of it; returns what has been held so far."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = []

    def begin() -> None:
        held.append(device_lock._held)
        monkeypatch.setattr(device_lock, "_held", {})

    begin()
    yield begin
    for locks in [*held, device_lock._held]:
        for lock in locks.values():
            lock.close()


def test_jobs_side_by_side_have_gpus_of_their_own(
    as_another_process, monkeypatch, refusal, tmp_path
):
    machine = "0,3,GPU-5f,7,8"
    seen = []
    for _ in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", machine)
        assert take_devices(2) == take_devices(2)  # a later job of this process
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        first_or_second = device_lock._held
        as_another_process()
    assert seen == ["0,3", "GPU-5f,7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", machine)
    message = refusal(lambda: take_devices(2))
    assert message.startswith("sweep.devices_per_job=2: 1 of the 5 GPUs here are free; run fewer")
    for lock in first_or_second.values():  # as at the end of that process
        lock.close()
    assert take_devices(2) == ["GPU-5f", "7"]


def test_jobs_without_gpus_share_the_cores(as_another_process, monkeypatch, refusal, gpus):
    gpus(0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    bound = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: bound.append(cores))
    assert take_devices(1) == ["2"]
    as_another_process()
    assert take_devices(2) == ["3", "5"]
    assert bound == [{2}, {3, 5}]
    as_another_process()
    assert "0 of the 3 cores here are free" in refusal(lambda: take_devices(1))
    message = refusal(lambda: take_devices(4))
    assert message == "sweep.devices_per_job=4: 3 cores are here; give at most as many"
