"""What exported files there are, by the ends of their names, and what runs each; imports no torch."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mambavision_lab.config.overrides import key_of
from mambavision_lab.errors import ConfigError, missing_extra


@dataclass(frozen=True)
class RuntimeOfFile:
    """A runtime: its title, its module in `exporters.runtimes`, and the extra that brings its package."""

    title: str
    module: str
    extra: str | None = None

    @property
    def package(self) -> str | None:
        """Name of the package that the extra brings."""
        return "onnxruntime" if self.extra == "onnx" else self.extra


RUNTIMES = {
    ".onnx": RuntimeOfFile("ONNX Runtime", "onnx", "onnx"),
    ".ort": RuntimeOfFile("ONNX Runtime", "onnx", "onnx"),
    ".xml": RuntimeOfFile("OpenVINO", "openvino", "openvino"),
    ".ts": RuntimeOfFile("TorchScript", "torchscript"),
    ".pt2": RuntimeOfFile("torch.export", "torch_export"),
    ".pte": RuntimeOfFile("ExecuTorch", "executorch", "executorch"),
    ".safetensors": RuntimeOfFile("torch", "safetensors"),
}


def check_model_file(path: Path, option: str | None) -> RuntimeOfFile:
    """Find the runtime of an exported file.

    Args:
        path: The file.
        option: What the user gave the path with, for messages; None where that is not known.

    Raises:
        ConfigError: There is no such file, no runtime for it, or that is not installed.
    """
    if ending(path) not in RUNTIMES:
        raise ConfigError(
            f"{named(path, option)}: no runtime for such a file; wanted one that export.py wrote, "
            f"model{', model'.join(RUNTIMES)}"
        )
    if not path.is_file():
        raise ConfigError(f"{named(path, option)}: no such file; give one that export.py wrote")
    runtime = RUNTIMES[ending(path)]
    if runtime.package and runtime.extra and importlib.util.find_spec(runtime.package) is None:
        raise missing_extra(named(path, option), runtime.package, runtime.extra)
    return runtime


def ending(path: Path) -> str:
    """Return the end of a file's name that tells its runtime, in small letters."""
    return path.suffix.lower()


def named(path: Path, option: str | None) -> str:
    """Name a file as the user gave it."""
    return f"{path}" if option is None else f"{option}={path}"


def refuse_changes(model_file: str, overrides: Iterable[str]) -> None:
    """Refuse overrides of what an exported file has fixed.

    Raises:
        ConfigError: One of them is of the network, or of how it is run.
    """
    for override in overrides:
        if key_of(override).partition(".")[0] in ("model", "classifier"):
            raise ConfigError(
                f"{override}: cannot change an exported network; remove it, or give ckpt_path in place of "
                f"model_file={model_file}"
            )
        if key_of(override) == "trainer.precision" and not override.endswith("=32-true"):
            raise ConfigError(
                f"{override}: would be ignored; an exported file computes as it was written, remove it"
            )
