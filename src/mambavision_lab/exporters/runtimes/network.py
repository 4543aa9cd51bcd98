"""Load a network with its description: from a checkpoint, a folder, or an exported file in its runtime."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambavision_lab.config.model_file import check_model_file
from mambavision_lab.config.renames import current_target
from mambavision_lab.data.preparation import preparation_of
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.exporters.runtimes.base import Runtime
from mambavision_lab.exporters.runtimes.load import is_exported, load_exported
from mambavision_lab.models.description import check_description
from mambavision_lab.models.saved import build_saved, read_saved

log = logging.getLogger(__name__)

_BESIDE_EXPORTED = (".json", ".md", ".html", ".bin")  # what export.py writes too, and nothing loads


def load_network(
    path: Path, device: str | torch.device | None = None, scan_backend: str = "auto"
) -> tuple[dict[str, Any], nn.Module, torch.device]:
    """Load a network in evaluation mode, with its description and the device that it lies on.

    Args:
        path: What `MambaVisionInference` takes.
        device: Where to run; None takes a GPU where there is one. Exported files run on the CPU.
        scan_backend: "auto" or a backend of `selective_scan`, for a network of torch.

    Raises:
        ConfigError: There is no such file, it is damaged or of another kind, or there is no such device.
    """
    if is_exported(path):
        if _device(device or "cpu").type != "cpu":
            raise ConfigError(f"device={device}: exported files run on the CPU; choose device=cpu")
        runtime = load_exported(path, option=None)
        check_description(runtime.description, path)
        description = describe(runtime, path)
        _try(runtime, description, path)
        return description, runtime.eval(), torch.device("cpu")
    if path.suffix in _BESIDE_EXPORTED:
        check_model_file(path, None)
    description, weights = read_saved(path)
    check_description(description, path)
    architecture = description.get("architecture") or {}
    if "_target_" in architecture:
        architecture["_target_"] = current_target(str(architecture["_target_"]))
    where = _device(device)
    net = build_saved(description, weights, path, scan_backend)
    return description, net.to(where).eval(), where


def describe(runtime: Runtime, path: Path) -> dict[str, Any]:
    """Return the description of an exported file, with images of the size that it was made for.

    Raises:
        ConfigError: It describes no preprocessing, or does not take square images.
    """
    if not runtime.description.get("preprocessing"):  # none, or empty
        raise ConfigError(
            f"{path}: its metadata gives no preprocessing; wanted a file that export.py wrote"
        )
    *slices, height, width = runtime.fixed_size or (None, None)
    if height != width:
        raise ConfigError(
            f"{path}: takes images of {height} x {width} alone, and images are prepared as squares; export "
            "it with one number of pixels for export.image_size"
        )
    given = runtime.description["preprocessing"]
    size = given.get("image_size") if height is None else height
    own = {"image_size": size, **({"num_slices": slices[0]} if slices else {})}
    return {**runtime.description, "preprocessing": {**given, **own}}


def _try(runtime: Runtime, description: dict[str, Any], path: Path) -> None:
    """Run a file on a black image as its description has it; both may have been changed.

    Raises:
        ConfigError: It does not take it, or does not give as many logits as there are classes.
    """
    preparation = preparation_of(description["preprocessing"], str(path))
    shape = (1, description["preprocessing"]["in_chans"], *preparation.sides)
    try:
        logits = runtime(preparation.normalize(torch.zeros(shape, dtype=torch.uint8)))
    except (ConfigError, RuntimeError) as error:  # the second of means of other channels
        raise ConfigError(
            f"{path}: does not fit its metadata, which has images of {' x '.join(map(str, shape[1:]))}: "
            f"{reason(error)}"
        ) from error
    names = description.get("class_names") or []
    found = tuple(logits.shape)
    num_axes = 2 + len(preparation.sides) * bool(description.get("has_masks"))
    if len(found) != num_axes or found[1] < len(names):
        raise ConfigError(
            f"{path}: gives {found} for an image, and its metadata names {len(names)} classes; export it anew"
        )
    if names and found[1] > len(names):
        log.warning(
            "%s: gives %d logits, and its metadata names %d classes; the others are left out",
            *(path, found[1], len(names)),
        )


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device}: no such kind of device; choose cpu or cuda") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device}: no GPU can be used here; choose device=cpu")
    return chosen
