"""Export to TorchScript: a traced network that Python or C++ loads with torch alone."""

import json
from pathlib import Path

import torch

from mambavision_lab.exporters.base import (
    ExportFormat,
    ExportSpec,
    example,
    tracing,
    with_scan,
)
from mambavision_lab.exporters.plain_scan import scripted_scan
from mambavision_lab.files import CONFIG


class TorchscriptFormat(ExportFormat):
    """One file; the scan is a scripted loop, so that nothing of ours is needed to load it."""

    name = "torchscript"
    files = ("model.ts",)

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.ts; the spec's description is its extra file config.json."""
        net, description = with_scan(spec.net, scripted_scan), json.dumps(spec.description)
        with tracing():
            traced = torch.jit.trace(net, example(spec), check_trace=False)
            torch.jit.save(traced, folder / self.files[0], _extra_files={CONFIG: description})
