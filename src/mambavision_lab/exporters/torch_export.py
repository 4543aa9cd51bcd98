"""Export to a `torch.export` program, for Python with torch and for PyTorch's compilers."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.exporters.base import ExportFormat, ExportSpec, Runtime, export_program
from mambavision_lab.exporters.onnx import check_scan
from mambavision_lab.exporters.plain_scan import unrolled_scan

EXTRA_FILE = "config.json"


class TorchExportFormat(ExportFormat):
    """One .pt2 file for `torch.export.load`.

    Args:
        scan: "op" for our operator, as fast as eager mode: whoever loads the file imports
            mambavision_lab.ops.selective_scan first. "unrolled" for plain operations: torch is enough.
        tolerance: As in `ExportFormat`.
        image_size: As in `ExportFormat`.
        dynamic_size: As in `ExportFormat`.
    """

    name = "torch_export"
    files = ("model.pt2",)

    def __init__(
        self,
        *,
        scan: str,
        tolerance: float,
        image_size: int | Sequence[int] | None = None,
        dynamic_size: bool | None = None,
    ) -> None:
        super().__init__(tolerance=tolerance, image_size=image_size, dynamic_size=dynamic_size)
        check_scan(scan)
        self.scan = scan

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.pt2; the spec's description is its extra file config.json."""
        program = export_program(spec, unrolled_scan if self.scan == "unrolled" else None)
        description = json.dumps(spec.description)
        torch.export.save(program, folder / self.files[0], extra_files={EXTRA_FILE: description})

    def load(self, folder: Path) -> Runtime:
        """Load model.pt2."""
        net = torch.export.load(folder / self.files[0]).module()

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return net(images)

        return run
