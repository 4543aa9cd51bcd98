"""Export to OpenVINO's own format, by way of ONNX."""

import json
import tempfile
from pathlib import Path

from mambavision_lab.exporters.base import ExportSpec, GraphFormat
from mambavision_lab.exporters.onnx import write_onnx
from mambavision_lab.exporters.runtimes.openvino import RT_INFO


class OpenvinoFormat(GraphFormat):
    """A pair of files, model.xml and model.bin, in float32; arguments as in `GraphFormat`."""

    name = "openvino"
    files = ("model.xml", "model.bin")
    packages = ("openvino", "onnx", "onnxscript")
    extra = "openvino"

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write both files; the spec's description goes into `rt_info` under mambavision_lab."""
        import openvino

        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            path = Path(scratch) / "model.onnx"
            write_onnx(self.export_program(spec), spec, path)
            # Not openvino.convert_model: that reports its use over the network.
            model = openvino.Core().read_model(path)
            for key, value in spec.description.items():
                model.set_rt_info(json.dumps(value), [RT_INFO, key])
            openvino.save_model(model, folder / self.files[0], compress_to_fp16=False)
