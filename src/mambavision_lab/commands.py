"""The tasks as commands: installed as `mambavision-train` and so on, called by the scripts of a checkout.

Logs and data go below `root`, the working folder by default. A task's module, which imports torch, is
imported when a command was found to be right.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mambavision_lab.launch.entry import run_command_line


def train(root: Path | None = None) -> None:
    """Train a network and test its best checkpoint."""
    run_command_line(_task("train.train"), "train", root)


def evaluate(root: Path | None = None) -> None:
    """Evaluate a checkpoint on its own test images or others."""
    run_command_line(_task("evaluate.evaluate"), "eval", root)


def predict(root: Path | None = None) -> None:
    """Classify image files with a checkpoint."""
    run_command_line(_task("predict.predict"), "predict", root)


def export(root: Path | None = None) -> None:
    """Write a trained network for another runtime."""
    run_command_line(_task("export.export"), "export", root)


def analyze(root: Path | None = None) -> None:
    """Count and measure what a network costs."""
    run_command_line(_task("analyze.analyze"), "analyze", root)


def preview(root: Path | None = None) -> None:
    """Look at a data set and its augmentation; with check=true at all its files alone."""
    check = _task("preview.check_files")
    run_command_line(_task("preview.preview"), "preview", root, on_check=check)


def explain(root: Path | None = None) -> None:
    """Show what a network looks at, and measure whether that is the truth."""
    run_command_line(_task("explain.explain"), "explain", root)


def demo(root: Path | None = None) -> None:
    """Classify and explain images in a browser."""
    run_command_line(_task("demo.demo"), "demo", root)


def serve(root: Path | None = None) -> None:
    """Classify images over HTTP."""
    run_command_line(_task("serve.serve"), "serve", root)


def _task(path: str) -> Callable[[DictConfig], Any]:
    """Return a task of `mambavision_lab.tasks` that is imported when it is called."""
    module, _, name = path.rpartition(".")

    def task(cfg: DictConfig) -> Any:
        return getattr(import_module(f"mambavision_lab.tasks.{module}"), name)(cfg)

    return task
