"""Calling the entry points in this process."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Call a script in this process; returns exit status, stdout and stderr."""
    monkeypatch.setenv("MAMBAVISION_LOGS", str(tmp_path / "logs"))

    def run(script: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        status = 0
        try:
            runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run
