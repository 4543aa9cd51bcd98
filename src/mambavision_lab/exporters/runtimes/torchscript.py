"""Run TorchScript files."""

import json
import warnings
from pathlib import Path

import torch

from mambavision_lab.exporters.runtimes.base import Runtime, run_module
from mambavision_lab.files import CONFIG


def load(path: Path) -> Runtime:
    """Load a .ts file."""
    extra = {CONFIG: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        run = run_module(torch.jit.load(path, map_location="cpu", _extra_files=extra))
    return Runtime(run, json.loads(extra[CONFIG] or "{}"))
