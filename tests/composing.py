"""Fixtures of the tests of config, runs and launch: composed configs, commands, modules of a test."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from mambavision_lab.config.resolvers import prepare
from mambavision_lab.files import configs_folder
from mambavision_lab.launch.entry import hydra_app


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MAMBAVISION_ROOT", str(tmp_path))
    monkeypatch.setenv("MAMBAVISION_LOGS", str(tmp_path / "logs"))
    monkeypatch.delenv("MAMBAVISION_DATA", raising=False)
    prepare()
    yield
    HydraConfig.instance().cfg = None
    GlobalHydra.instance().clear()


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose a config as a run does, with logs/run as its output folder."""

    def call(config_name: str, *overrides: str, folder: Path | None = None) -> DictConfig:
        config_dir = str(folder or configs_folder())
        with hydra.initialize_config_dir(version_base="1.3", config_dir=config_dir):
            cfg = hydra.compose(config_name, overrides=[*overrides], return_hydra_config=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(tmp_path / "logs" / "run")
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

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
def command(monkeypatch, tmp_path):
    """Run a task as an entry point does; returns the exit status."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # set by the entry points, undone by this

    def call(task, *arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        try:
            hydra_app("train")(task)()
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
