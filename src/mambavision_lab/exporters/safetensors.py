"""Weights in `model.safetensors`, beside a `config.json` with all that is needed to use them."""

import json
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.base import ExportFormat, ExportSpec, Runtime

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class SafetensorsFormat(ExportFormat):
    """A folder for `MambaVisionInference`, `from_pretrained` and `model.pretrained=FOLDER`."""

    name = "safetensors"
    files = (WEIGHTS, CONFIG)

    def write(self, target: ExportSpec, folder: Path) -> None:
        """Write both files."""
        write_weights(target.net, target.description, folder)

    def load(self, folder: Path) -> Runtime:
        """Load the folder as `MambaVisionInference` does."""
        net = build_net(*read_weights(folder), folder).eval()

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return net(images)

        return run


def write_weights(net: nn.Module, description: dict[str, Any], folder: Path) -> None:
    """Write a network's weights and its description into a folder."""
    weights = {key: x.detach().cpu().contiguous() for key, x in net.state_dict().items()}
    text = json.dumps(description, indent=2)
    save_file(weights, folder / WEIGHTS, {"format": "pt", "config": json.dumps(description)})
    (folder / CONFIG).write_text(text + "\n")


def is_weights_folder(folder: Path) -> bool:
    """Whether a folder holds both files."""
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def read_weights(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the description and the weights.

    Raises:
        ConfigError: One of the files is damaged.
    """
    try:
        description = json.loads((folder / CONFIG).read_text())
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"{folder}: its {CONFIG} or {WEIGHTS} is damaged ({reason}); export it anew"
        ) from error
    if not isinstance(description, dict) or not isinstance(description.get("preprocessing"), dict):
        raise ConfigError(
            f"{folder}: its {CONFIG} names no preprocessing; wanted one that export.py or "
            "save_pretrained wrote"
        )
    return description, weights


def build_net(
    description: dict[str, Any],
    weights: dict[str, Tensor],
    path: str | Path,
    scan_backend: str = "auto",
) -> nn.Module:
    """Make the network that is described, and give it the weights.

    What runs its scan is this machine's choice, not that of the one it was trained on.

    Raises:
        ConfigError: It is none of ours, cannot be made, or the weights are those of another.
    """
    settings = dict(description.get("architecture") or {})
    make = _find_network(str(settings.pop("_target_", None)), path)
    settings.pop("pretrained", None)  # weights to start from; the trained ones follow
    settings["scan_backend"] = scan_backend
    try:
        net = make(**settings)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: its network cannot be made ({reason})") from error
    dtypes = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(dtypes) == 1:
        net.to(dtypes.pop())  # a run with precision=bf16-true
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{path}: its weights do not fit its own network ({reason})") from error
    return net


def _find_network(target: str, path: str | Path) -> Callable[..., nn.Module]:
    """What `target` names, if it is defined in a module of mambavision_lab.models: a file may name any."""
    module, _, name = target.rpartition(".")
    found = None
    if re.fullmatch(r"mambavision_lab\.models\.\w+", module) and find_spec(module):
        found = getattr(import_module(module), name, None)
    if getattr(found, "__module__", None) != module:
        raise ConfigError(f"{path}: its network is {target}; wanted one of mambavision_lab.models")
    return cast("Callable[..., nn.Module]", found)
