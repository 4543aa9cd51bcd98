"""Fixtures that several test folders share."""

import contextlib
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from toys import TOY_OPTIONS

from mambavision_lab.errors import ConfigError
from mambavision_lab.models.plain import PlainMambaVision


@pytest.fixture
def refusal() -> Callable[[Callable[[], object]], str]:
    """Call something that must raise a ConfigError; returns its message, which must be one line."""

    def call(action: Callable[[], object]) -> str:
        with pytest.raises(ConfigError) as caught:
            action()
        message = str(caught.value)
        assert "\n" not in message
        assert message.strip()
        return message

    return call


@pytest.fixture(autouse=True, scope="session")
def _keep_captured_output_open() -> None:
    # OpenVINO imports absl, whose log handler closes its stream (here pytest's) when Hydra sets up logging.
    with contextlib.suppress(ImportError):
        from absl import logging

        logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def logs(tmp_path, monkeypatch) -> Path:
    """A log folder of this test's own."""
    monkeypatch.setenv("MAMBAVISION_LOGS", str(tmp_path / "logs"))
    return tmp_path / "logs"


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call an entry point in this process, its logs in tmp_path; returns exit status, stdout and stderr."""
    monkeypatch.setenv("MAMBAVISION_LOGS", str(tmp_path / "logs"))

    def run(script: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        status = 0
        try:
            runpy.run_path(str(Path(__file__).parents[1] / f"{script}.py"), run_name="__main__")
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def make_net() -> Callable[..., PlainMambaVision]:
    """Make a toy network of the plain family, with one Mamba and one attention block."""
    return lambda **options: PlainMambaVision(**{**TOY_OPTIONS, **options})


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Make a silent trainer on the CPU that writes nothing."""

    def make(**options: Any) -> Trainer:
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        warnings.filterwarnings("ignore", message=".*but have no `val_dataloader`")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
        silent = {
            "accelerator": "cpu",
            "devices": 1,
            "default_root_dir": tmp_path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
        }
        return Trainer(**{**silent, **options})

    return make


@pytest.fixture
def nan_buffers() -> Iterator[None]:
    """Fill every uninitialised buffer with NaN, so that a read of one is noticed."""
    deterministic = torch.utils.deterministic
    was_on = torch.are_deterministic_algorithms_enabled()
    was_lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    was_filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = True
    assert torch.empty(4).isnan().all()
    yield
    torch.use_deterministic_algorithms(was_on, warn_only=was_lenient)
    deterministic.fill_uninitialized_memory = was_filled
