"""Run OpenVINO's pairs of files on the CPU."""

from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.runtimes.base import DESCRIBED, Runtime, read_metadata

RT_INFO = "mambavision_lab"  # key of the metadata


def load(path: Path) -> Runtime:
    """Load a .xml file and the .bin file beside it, to run on as many threads as torch uses."""
    import openvino

    with path.open("rb") as file:
        if b"<net" not in file.read(2**12):  # of which OpenVINO would try its other formats, aloud
            raise ConfigError(
                f"{path}: is no network of OpenVINO's; wanted one that export.py wrote"
            )
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # it may choose bfloat16 otherwise
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    model = core.read_model(path)
    stored = {
        key: model.get_rt_info([RT_INFO, key]).value
        for key in DESCRIBED
        if model.has_rt_info([RT_INFO, key])
    }
    compiled = core.compile_model(model, "CPU", options)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0].copy())

    return Runtime(run, read_metadata(stored))
