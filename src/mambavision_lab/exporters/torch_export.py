"""Export to a `torch.export` program, for Python with torch and for PyTorch's compilers."""

import json
from pathlib import Path

import torch

from mambavision_lab.exporters.base import ExportSpec, GraphFormat
from mambavision_lab.files import CONFIG


class TorchExportFormat(GraphFormat):
    """One .pt2 file for `torch.export.load`; arguments as in `GraphFormat`.

    With scan="op" it is as fast as eager mode, and mambavision_lab.ops.selective_scan must be imported
    before it is loaded. With "unrolled" torch is enough.
    """

    name = "torch_export"
    files = ("model.pt2",)

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.pt2; the spec's description is its extra file config.json."""
        program, description = self.export_program(spec), json.dumps(spec.description)
        program.example_inputs = None  # up to two megabytes of zeros
        torch.export.save(program, folder / self.files[0], extra_files={CONFIG: description})
