"""Fixtures of the tests that imitate launchers."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def launcher_variables() -> Iterator[Callable[[dict[str, str]], None]]:
    """Set variables; those of launchers are unset before, and all is as it was after the test."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")):
            del os.environ[name]
    yield os.environ.update
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def start_srun(start, monkeypatch) -> Callable[..., list[subprocess.Popen]]:
    """Start a number of processes of this machine with the variables that srun would give them."""

    def call(num_tasks: int, *arguments: str, **variables: str) -> list[subprocess.Popen]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]  # free again below
        slurm = {
            "SLURM_JOB_ID": "4242",
            "SLURM_NTASKS": str(num_tasks),
            "SLURM_STEP_NUM_NODES": "1",
            "SLURM_STEP_ID": "0",
            "SLURM_NODEID": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        runs = []
        for rank in map(str, range(num_tasks)):
            own = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}
            for name, value in (slurm | own | variables).items():
                monkeypatch.setenv(name, value)
            runs.append(start(*arguments))
        return runs

    return call
