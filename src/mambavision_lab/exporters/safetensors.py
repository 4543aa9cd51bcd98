"""Weights in `model.safetensors`, beside a `config.json` with all that is needed to use them."""

from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.exporters.base import ExportFormat, ExportSpec, Runtime
from mambavision_lab.models.saved import CONFIG, WEIGHTS, build_saved, read_saved, write_weights


class SafetensorsFormat(ExportFormat):
    """A folder for `MambaVisionInference`, `from_pretrained` and `model.pretrained=FOLDER`."""

    name = "safetensors"
    files = (WEIGHTS, CONFIG)

    def write(self, target: ExportSpec, folder: Path) -> None:
        """Write both files."""
        write_weights(target.net, target.description, folder)

    def load(self, folder: Path) -> Runtime:
        """Load the folder as `MambaVisionInference` does."""
        net = build_saved(*read_saved(folder), folder).eval()

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return net(images)

        return run
