"""Run programs of `torch.export`."""

import json
from pathlib import Path

import torch

import mambavision_lab.ops.selective_scan  # noqa: F401  (registers the operator of the file)
from mambavision_lab.exporters.runtimes.base import Runtime, run_module
from mambavision_lab.models.saved import CONFIG


def load(path: Path) -> Runtime:
    """Load a .pt2 file."""
    extra = {CONFIG: ""}
    run = run_module(torch.export.load(path, extra_files=extra).module())
    return Runtime(run, json.loads(extra[CONFIG] or "{}"))
