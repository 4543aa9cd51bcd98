"""Export to OpenVINO's own format, by way of ONNX."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.exporters.base import ExportFormat, ExportSpec, Runtime
from mambavision_lab.exporters.onnx import check_scan, write_onnx


class OpenvinoFormat(ExportFormat):
    """A pair of files, model.xml and model.bin, in float32.

    Args:
        scan: "op" for one loop node per scan, "unrolled" for plain operations.
        tolerance: As in `ExportFormat`.
        image_size: As in `ExportFormat`.
        dynamic_size: As in `ExportFormat`.
    """

    name = "openvino"
    files = ("model.xml", "model.bin")
    packages = ("openvino", "onnx", "onnxscript")

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
        """Write both files; the spec's description goes into `rt_info` under mambavision_lab."""
        import openvino

        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            path = Path(scratch) / "model.onnx"
            write_onnx(spec, path, is_unrolled=self.scan == "unrolled")
            # Not openvino.convert_model: that reports its use over the network.
            model = openvino.Core().read_model(path)
            for key, value in spec.description.items():
                model.set_rt_info(json.dumps(value), ["mambavision_lab", key])
            openvino.save_model(model, folder / self.files[0], compress_to_fp16=False)

    def load(self, folder: Path) -> Runtime:
        """Load both files on the CPU."""
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # it may choose bfloat16 otherwise
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(folder / self.files[0], "CPU", options)

        def run(images: Tensor) -> Tensor:
            return torch.from_numpy(compiled(images.numpy())[0].copy())

        return run
