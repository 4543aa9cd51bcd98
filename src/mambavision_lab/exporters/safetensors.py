"""Export weights to `model.safetensors`, with a `config.json` that holds all else needed to use them."""

from pathlib import Path

from mambavision_lab.exporters.base import ExportFormat, ExportSpec, Runtime, run_module
from mambavision_lab.models.saved import CONFIG, WEIGHTS, build_saved, read_saved, write_weights


class SafetensorsFormat(ExportFormat):
    """A folder for `MambaVisionInference`, `from_pretrained` and `model.pretrained=FOLDER`."""

    name = "safetensors"
    files = (WEIGHTS, CONFIG)

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write both files."""
        write_weights(spec.net, spec.description, folder)

    def load(self, folder: Path) -> Runtime:
        """Load the folder as `MambaVisionInference` does."""
        return run_module(build_saved(*read_saved(folder), folder).eval())
