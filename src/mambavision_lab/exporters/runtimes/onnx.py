"""Run ONNX files, and those of ONNX Runtime's mobile format, with ONNX Runtime on the CPU."""

from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.runtimes.base import Runtime, read_metadata


def load(path: Path) -> Runtime:
    """Load a .onnx or .ort file, to run on as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors, which are raised as well
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    names = [given.name for given in session.get_inputs()]
    if len(names) != 1:
        raise ConfigError(
            f"{path}: takes {len(names)} inputs, {', '.join(names)}; wanted images alone"
        )

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {names[0]: images.numpy()})[0])

    return Runtime(run, read_metadata(session.get_modelmeta().custom_metadata_map))
