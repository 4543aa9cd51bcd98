"""Save networks, and load them from training checkpoints, run folders and folders of safetensors.

A saved network is a description and its weights by name. The description holds plain values: `architecture`
(a constructor call), `preprocessing`, `class_names`, `is_multilabel`, `has_masks`, of a segmentation
`include_background`, and where they are known the run's `name` and `metrics`. Nothing pickled in a file is
run. Weights to start a training from are the subject of `pretrained.py`, the Hugging Face hub that of
`hub.py`.
"""

import inspect
import json
import re
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mambavision_lab.data.decode import WHITE
from mambavision_lab.data.image_files import CROP_FRACTION
from mambavision_lab.data.preparation import SETTINGS, SETTINGS_OF_SOME
from mambavision_lab.errors import ConfigError, first_line, reason
from mambavision_lab.files import (
    BEST_CHECKPOINT,
    CONFIG,
    LAST_CHECKPOINT,
    WEIGHTS,
    find_damage,
    write_atomically,
)
from mambavision_lab.metrics import is_speed

Description = dict[str, Any]

# What older checkpoints do not name; they will be used on files.
_OF_OLDER = {"keeps_aspect": True, "crop_fraction": CROP_FRACTION, "background": list(WHITE)}


def load_checkpoint(path: str | Path, *, use_mmap: bool = False) -> dict[str, Any]:
    """Load a training checkpoint onto the CPU; pickled code in it is refused, not run.

    Args:
        path: The file.
        use_mmap: Map the tensors instead of reading all of them; they are valid while the file is as it is.

    Raises:
        ConfigError: The file is missing, damaged, not a checkpoint that `train.py` wrote, or its weights are
            not numbers.
    """
    wanted = "wanted a checkpoint that train.py wrote, such as logs/latest/checkpoints/best.ckpt"
    if not Path(path).is_file():
        raise ConfigError(f"ckpt_path={path}: no such file; {wanted}")
    if damage := find_damage(Path(path)):
        raise ConfigError(f"ckpt_path={path}: is damaged ({damage}); give another checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=use_mmap)
    except Exception as error:  # of many kinds, from reading and from refusing pickled code
        raise ConfigError(
            f"ckpt_path={path}: is no checkpoint ({first_line(error)}); {wanted}"
        ) from error
    parts = {"state_dict", "hyper_parameters"}
    if not isinstance(checkpoint, dict) or not parts <= set(checkpoint):
        raise ConfigError(f"ckpt_path={path}: holds no state_dict and hyper_parameters; {wanted}")
    if keys := find_nan(checkpoint["state_dict"]):
        raise ConfigError(f"ckpt_path={path}: NaN in {keys}; give an earlier checkpoint")
    return checkpoint


def find_nan(weights: Mapping[str, Any]) -> str:
    """Name the weights that are not numbers, the first and how many more; "" where all are."""
    found = [
        key
        for key, x in weights.items()
        if isinstance(x, Tensor) and x.is_floating_point() and x.isnan().any()
    ]
    return f"{found[0]} and {len(found) - 1} more" if len(found) > 1 else "".join(found)


def load_weights(module: nn.Module, checkpoint: dict[str, Any], path: str) -> None:
    """Load a checkpoint's weights into the module that was trained (a classifier with its network).

    Raises:
        ConfigError: They are those of another network.
    """
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ConfigError(
            f"ckpt_path={path}: does not fit the network ({reason(error)}); "
            "give the model it was trained with"
        ) from error


def read_saved(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """Read the description and the weights in a checkpoint, a run's folder or a folder of weights.

    model.safetensors stands for the folder that it lies in.

    The weights are for copying at once: they may be mapped from the file.

    Raises:
        ConfigError: There is no such file, or it is damaged.
    """
    if path.name == WEIGHTS:
        return _read_folder(path.parent)
    if is_weights_folder(path):
        return _read_folder(path)
    if path.suffix == ".safetensors" and path.is_file():
        raise ConfigError(f"{path}: wanted it to be called {WEIGHTS}, with its {CONFIG} beside it")
    file = _checkpoint_in(path)
    checkpoint = load_checkpoint(file, use_mmap=True)
    settings = checkpoint["hyper_parameters"]
    data: dict[str, Any] = settings.get("data") or {}
    description = {
        "architecture": dict(settings.get("model") or {}),
        "preprocessing": {
            **{key: data.get(key, _OF_OLDER.get(key)) for key in SETTINGS},
            **{key: data[key] for key in SETTINGS_OF_SOME if key in data},
        },
        "is_multilabel": data.get("is_multilabel", False),
        "has_masks": data.get("has_masks", False),
        "class_names": data.get("class_names"),
    }
    for name in ("include_background", "name"):
        if settings.get(name) is not None:
            description[name] = settings[name]
    if metrics := _metrics_of(file):
        description["metrics"] = metrics
    prefix = "net."
    weights = {
        key.removeprefix(prefix): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(prefix)
    }
    return description, weights


def build_saved(
    description: Description,
    weights: dict[str, Tensor],
    path: str | Path,
    scan_backend: str = "auto",
) -> nn.Module:
    """Build the network that is described, and copy the weights into it.

    The backend of its scan is this machine's choice, not that of the one it was trained on.

    Raises:
        ConfigError: It is none of ours, cannot be built, or the weights are those of another.
    """
    settings = dict(description.get("architecture") or {})
    make = _find_network(str(settings.pop("_target_", None)), path)
    settings.pop("pretrained", None)  # weights to start from; the trained ones follow
    if "scan_backend" in inspect.signature(make).parameters:  # timm's networks have no scan
        settings["scan_backend"] = scan_backend
    try:
        net = make(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: its network cannot be made ({reason(error, 200)})") from error
    dtypes = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(dtypes) == 1:
        net.to(dtypes.pop())  # a run with precision=bf16-true
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: its weights do not fit its own network ({reason(error)})"
        ) from error
    return net


def is_weights_folder(folder: Path) -> bool:
    """Return whether a folder holds both model.safetensors and config.json."""
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def write_weights(net: nn.Module, description: Description, folder: Path) -> None:
    """Write a network's weights as model.safetensors, and its description as config.json, into a folder."""
    weights = {key: x.detach().cpu().contiguous() for key, x in net.state_dict().items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt", "config": json.dumps(description)})
    write_atomically(folder / CONFIG, json.dumps(description, indent=2) + "\n")
    # safetensors writes for its owner alone.
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)


def _read_folder(folder: Path) -> tuple[Description, dict[str, Tensor]]:
    try:
        description = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: its {CONFIG} or {WEIGHTS} is damaged ({reason(error, 160)}); export it anew"
        ) from error
    if not isinstance(description, dict) or not isinstance(description.get("preprocessing"), dict):
        raise ConfigError(
            f"{folder}: its {CONFIG} names no preprocessing; wanted one that export.py or "
            "save_pretrained wrote"
        )
    if keys := find_nan(weights):
        raise ConfigError(f"{folder}: NaN in {keys}; export another checkpoint")
    return description, weights


def _checkpoint_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in (BEST_CHECKPOINT, LAST_CHECKPOINT):
        if (path / name).is_file():
            return path / name
    raise ConfigError(
        f"{path}: holds no {BEST_CHECKPOINT} or last.ckpt, nor {WEIGHTS} with {CONFIG}; "
        "give a run's folder"
    )


def _metrics_of(checkpoint: Path) -> dict[str, float]:
    """Read the metrics that the run of a best checkpoint ended with; none where there is no such file."""
    file = checkpoint.parent.parent / "metrics.json"
    if checkpoint.name != Path(BEST_CHECKPOINT).name or not file.is_file():
        return {}
    try:
        metrics = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # damaged; the network can be used without
    return {
        key: x for key, x in metrics.items() if isinstance(x, int | float) and not is_speed(key)
    }


def _find_network(target: str, path: str | Path) -> Callable[..., nn.Module]:
    """Find `target` if it is defined in a module of mambavision_lab.models: a file may name anything."""
    module, _, name = target.rpartition(".")
    found = None
    if re.fullmatch(r"mambavision_lab\.models\.\w+", module) and find_spec(module):
        found = getattr(import_module(module), name, None)
    if getattr(found, "__module__", None) != module:
        raise ConfigError(f"{path}: its network is {target}; wanted one of mambavision_lab.models")
    return cast("Callable[..., nn.Module]", found)
