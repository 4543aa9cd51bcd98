"""Run programs of `torch.export`."""

import json
import logging
from pathlib import Path

import torch

import mambavision_lab.ops.selective_scan  # noqa: F401  (registers the operator of the file)
from mambavision_lab.exporters.runtimes.base import Runtime, run_module
from mambavision_lab.files import CONFIG


def load(path: Path) -> Runtime:
    """Load a .pt2 file."""
    extra = {CONFIG: ""}
    log = logging.getLogger("torch.export")
    log.addFilter(_is_no_warning)  # with a traceback, of what it raises as well
    try:
        run = run_module(torch.export.load(path, extra_files=extra).module())
    finally:
        log.removeFilter(_is_no_warning)
    return Runtime(run, json.loads(extra[CONFIG] or "{}"))


def _is_no_warning(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING
