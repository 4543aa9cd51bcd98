"""TorchScript: a traced network that Python or C++ loads with torch alone."""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.exporters.base import ExportFormat, ExportSpec, Runtime, example, tracing
from mambavision_lab.exporters.plain_scan import scripted_scan

EXTRA_FILE = "config.json"


class TorchscriptFormat(ExportFormat):
    """One file; the scan is a scripted loop, so that nothing of ours is needed to load it."""

    name = "torchscript"
    files = ("model.ts",)

    def write(self, target: ExportSpec, folder: Path) -> None:
        """Write model.ts; the target's description is its extra file config.json."""
        with tracing(scripted_scan):
            traced = torch.jit.trace(target.net, example(target), check_trace=False)
            description = json.dumps(target.description)
            torch.jit.save(traced, folder / self.files[0], _extra_files={EXTRA_FILE: description})

    def load(self, folder: Path) -> Runtime:
        """Load it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the age of TorchScript
            net = torch.jit.load(folder / self.files[0])

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return net(images)

        return run
