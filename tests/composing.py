"""Fixtures of the tests of config, runs and launch: composed configs, commands, modules of a test."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mambavision_lab.config.compose import Composer, Source, set_output_dir, without_hydra
from mambavision_lab.config.resolvers import register
from mambavision_lab.files import configs_folder
from mambavision_lab.launch.check_command import check_jobs
from mambavision_lab.launch.command_line import parse_command
from mambavision_lab.launch.entry import run_command_line
from mambavision_lab.launch.prepared import open_command


def check(task: str, *arguments: str) -> list[list[str]]:
    """Check a command line as the entry points do; returns the overrides of its jobs."""
    return check_jobs(open_command(parse_command(task, [f"{task}.py", *arguments])))[0]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MAMBAVISION_ROOT", str(tmp_path))
    monkeypatch.setenv("MAMBAVISION_LOGS", str(tmp_path / "logs"))
    monkeypatch.delenv("MAMBAVISION_DATA", raising=False)
    register()
    yield
    HydraConfig.instance().cfg = None


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose a config as a run does, with logs/run as its output folder."""

    def call(
        config_name: str,
        *overrides: str,
        location: str = "",
        others: tuple[str, ...] = (),
        mode: RunMode = RunMode.RUN,
    ) -> DictConfig:
        source = Source(config_name, location or str(configs_folder()), others)
        cfg = Composer(source, config_name, ["train.py", *overrides]).compose(overrides, mode)
        set_output_dir(cfg, tmp_path / "logs" / "run")
        HydraConfig.instance().set_config(cfg)
        return without_hydra(cfg)

    return call


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a Python file below a folder that is importable, at a path such as pkg/parts.py."""
    folder = tmp_path / "importable"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def write(path: str, source: str) -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(source)

    return write


@pytest.fixture
def command(monkeypatch):
    """Run a task as a command; returns the exit status."""

    def call(task, *arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            run_command_line(task, "train")
        except SystemExit as stop:
            return stop.code
        return 0

    handlers, level = logging.root.handlers[:], logging.root.level
    yield call
    logging.root.handlers[:] = handlers  # Hydra has put its own, on streams of this test
    logging.root.setLevel(level)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start train.py or a module in a process of its own, logs below tmp_path."""
    root = configs_folder().parent
    monkeypatch.setenv("MAMBAVISION_ROOT", str(root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = os.pathsep.join([str(root / "src"), str(Path(__file__).parent / "launch")])
    monkeypatch.setenv("PYTHONPATH", path)

    def call(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return call
