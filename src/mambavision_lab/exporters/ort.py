"""Export to ONNX Runtime's format for phones and small devices, which its mobile builds load."""

import tempfile
from pathlib import Path

from mambavision_lab.exporters.base import ExportSpec
from mambavision_lab.exporters.onnx import OnnxFormat


class OrtFormat(OnnxFormat):
    """A .ort file, optimised for any processor; arguments as in `OnnxFormat`."""

    name = "ort"
    files = ("model.ort",)

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.ort; the metadata are those of the ONNX file."""
        import onnxruntime

        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            graph = Path(scratch) / "model.onnx"
            self.write_graph(spec, graph)
            options = onnxruntime.SessionOptions()
            options.optimized_model_filepath = str(folder / self.files[0])
            # Further optimisations would be those of this machine's processor.
            options.graph_optimization_level = (
                onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            )
            options.add_session_config_entry("session.save_model_format", "ORT")
            options.log_severity_level = 3
            onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
