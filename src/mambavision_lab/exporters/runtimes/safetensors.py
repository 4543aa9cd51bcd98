"""Run a folder of weights with the network that its config names."""

from pathlib import Path

from mambavision_lab.exporters.runtimes.base import Runtime, run_module
from mambavision_lab.models.saved import build_saved, read_saved


def load(path: Path) -> Runtime:
    """Load model.safetensors with the config.json beside it."""
    description, weights = read_saved(path)
    return Runtime(run_module(build_saved(description, weights, path).eval()), description)
