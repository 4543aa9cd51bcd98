"""Load an exported file in its own runtime, which the end of its name tells."""

from importlib import import_module
from pathlib import Path

from mambavision_lab.config.model_file import RUNTIMES, check_model_file, ending, named
from mambavision_lab.errors import ConfigError, first_line
from mambavision_lab.exporters.runtimes.base import Runtime


def is_exported(path: Path) -> bool:
    """Return whether a file's name is that of an exported file, weights of ours apart."""
    return ending(path) in RUNTIMES and ending(path) != ".safetensors"


def load_exported(path: Path, option: str | None = "model_file") -> Runtime:
    """Load an exported file.

    Args:
        path: The file: model.onnx, model.ort, model.xml, model.ts, model.pt2, model.pte or model.safetensors.
        option: What the user gave the path with, for messages; None where that is not known.

    Raises:
        ConfigError: There is no such file, its runtime is not installed, or refuses it.
    """
    runtime = check_model_file(path, option)
    try:
        return import_module(f"{__package__}.{runtime.module}").load(path)
    except ConfigError:
        raise
    except Exception as error:  # each runtime has its own kinds
        raise ConfigError(
            f"{named(path, option)}: {runtime.title} cannot load it ({_why(error)}); export it anew"
        ) from error


def _why(error: Exception) -> str:
    """Give the first line of a message, of OpenVINO's the first that says more than where it was raised."""
    lines = str(error).splitlines()
    told = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    return (" ".join(told[0].split()) if told else first_line(error))[:200]
