"""Export weights to `model.safetensors`, with a `config.json` that holds all else needed to use them."""

from pathlib import Path

from mambavision_lab.exporters.base import ExportFormat, ExportSpec
from mambavision_lab.files import CONFIG, WEIGHTS
from mambavision_lab.models.saved import write_weights


class SafetensorsFormat(ExportFormat):
    """A folder for `MambaVisionInference`, `from_pretrained` and `model.pretrained=FOLDER`."""

    name = "safetensors"
    files = (WEIGHTS, CONFIG)

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write both files."""
        write_weights(spec.net, spec.description, folder)
