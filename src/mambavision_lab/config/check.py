"""Check a composed config before anything starts: names, types and paths, without importing torch."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.axes_checks import check_axes
from mambavision_lab.config.durations import check_duration, is_duration
from mambavision_lab.config.explain_checks import check_explanation
from mambavision_lab.config.file_checks import check_files
from mambavision_lab.config.folder_checks import check_folders
from mambavision_lab.config.group_checks import check_groups, suggest
from mambavision_lab.config.mask_checks import check_masks
from mambavision_lab.config.renames import OPTIONS
from mambavision_lab.config.schema import task_of
from mambavision_lab.config.secrets import check_secrets
from mambavision_lab.config.signatures import read_signature
from mambavision_lab.config.trainer_checks import check_training
from mambavision_lab.errors import ConfigError, missing_extra
from mambavision_lab.metrics import has_known_direction, is_lower_better

# Annotation -> values that fit it; what is not named here is not checked.
_NODE = "a node with a _target_"
_SIMPLE: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (type(None),),
    "list": (list,),
    "dict": (dict,),
}
_LEAST = {
    "optimizer.weight_decay": 0,
    "launcher.max_restarts": 0,
    "launcher.stop_timeout_s": 1,
    "trainer.gradient_clip_val": 0,  # below it gradients are turned around
    "trainer.log_every_n_steps": 0,
    "callbacks.early_stopping.patience": 0,
    "callbacks.predictions.num_images": 0,
    "callbacks.progress_bar.refresh_rate": 0,
    "num_images": 2,
    "num_epochs": 1,
    "num_scanned": 1,
    "seconds": 0,
}
# Hydra's own keys of a node, with their types.
_HYDRAS = {"_partial_": "bool", "_recursive_": "bool", "_convert_": "str", "_args_": "list"}


def check_config(cfg: DictConfig) -> None:
    """Check every `_target_` node of a composed config against the signature of its target.

    Raises:
        ConfigError: The first thing found wrong, with a suggestion.
    """
    if (cfg.get("data") or {}).get("root", "") is None:  # before classes are counted in it
        raise ConfigError("data.root=null: wanted a folder; give data.root=FOLDER")
    resolved: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_secrets(resolved)
    check_groups(resolved)
    check_masks(resolved)
    check_nodes(resolved)
    for key, least in _LEAST.items():
        number = OmegaConf.select(cfg, key)
        if number is not None and number < least:
            raise ConfigError(f"{key}={number}: wanted {least} or more")
    betas = (resolved.get("optimizer") or {}).get("betas") or ()
    if not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas):
        raise ConfigError(f"optimizer.betas={list(betas)}: wanted numbers from 0 up to, without, 1")
    check_training(resolved)
    if task_of(cfg) in ("explain", "demo"):
        check_explanation(resolved)
    if resolved.get("optimizer"):
        check_axes(resolved)
    check_folders(resolved)
    check_files(cfg, resolved)
    for key, seed in (
        ("seed", resolved.get("seed")),
        ("data.seed", (resolved.get("data") or {}).get("seed")),
    ):
        if seed is not None and not 0 <= seed < 2**32:
            raise ConfigError(f"{key}={seed}: wanted a whole number from 0 to {2**32 - 1}")
    outputs, num_classes = (
        (resolved.get(key) or {}).get("num_classes") for key in ("model", "data")
    )
    is_eval = task_of(cfg) == "eval"  # which names the classes that the network does not know
    if not is_eval and outputs is not None and num_classes is not None and outputs < num_classes:
        raise ConfigError(
            f"model.num_classes={outputs}, but the data have {num_classes} classes; "
            "leave model.num_classes as it is"
        )
    taken, given = ((resolved.get(key) or {}).get("in_chans") for key in ("model", "data"))
    if not is_eval and taken is not None and given is not None and taken != given:
        raise ConfigError(
            f"model.in_chans={taken}, but the data have {given} channels; leave model.in_chans as it is"
        )
    checkpoint = resolved.get("ckpt_path")
    if (resume := resolved.get("resume", "exact")) not in ("exact", "weights"):
        raise ConfigError(f"resume={resume}: wanted exact or weights")
    if resume == "weights" and checkpoint is None:
        raise ConfigError("resume=weights: of which checkpoint? Give ckpt_path=FILE as well")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise ConfigError(
            f"ckpt_path={checkpoint}: no such file; give a checkpoint such as "
            "logs/latest/checkpoints/best.ckpt"
        )


def check_nodes(node: Any, path: str = "") -> None:
    """Check every `_target_` node in plain values against the signature of its target.

    Raises:
        ConfigError: The first thing found wrong, with a suggestion.
    """
    for where, found in target_nodes(node, path):
        _check_node(where, found)
        _check_mode(where, found)


# Choice -> the package it needs and our extra that brings it.
_NEEDS = {
    "hydra/launcher=joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "hydra/launcher=submitit_local": ("hydra_plugins.hydra_submitit_launcher", "submitit"),
    "hydra/launcher=submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "submitit"),
    "hydra/launcher=ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}


def check_extra(override: str) -> None:
    """Refuse a choice whose package is not installed.

    Raises:
        ConfigError: It is not; the message names the extra that brings it.
    """
    if override not in _NEEDS:
        return
    package, extra = _NEEDS[override]
    if importlib.util.find_spec(package) is None:
        raise missing_extra(override, f"the package {package.rpartition('.')[2]}", extra)


def target_nodes(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find every `_target_` node in plain values, with its key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, child in node.items():
            yield from target_nodes(child, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, child in enumerate(node):
            yield from target_nodes(child, f"{path}[{i}]")


def _check_node(path: str, node: dict[str, Any]) -> None:
    if not isinstance(node["_target_"], str):
        raise ConfigError(f"{path}._target_={node['_target_']}: wanted the name of a class")
    for key in node.keys() & _HYDRAS.keys():
        _check_value(f"{path}.{key}", node[key], _HYDRAS[key])
    try:
        signature = read_signature(node["_target_"])
    except LookupError as error:
        raise ConfigError(f"{path}._target_={node['_target_']}: {error.args[0]}") from error
    if signature is None:
        return
    for key, value in node.items():
        if key in ("_target_", *_HYDRAS):
            continue
        if key in signature.parameters:
            _check_value(f"{path}.{key}", value, signature.parameters[key])
        elif not signature.is_open:
            known = OPTIONS.get(f"{path}.{key}")
            hint = f"use {known}" if known else suggest(key, signature.parameters)
            raise ConfigError(f"{path}.{key}: {signature.owner} has no option {key!r}; {hint}")


def _check_mode(path: str, node: dict[str, Any]) -> None:
    """Refuse a callback that would take the worst epoch for the best one."""
    monitor = str(node.get("monitor"))
    mode = node.get("mode", "min" if node["_target_"].startswith("lightning.") else None)
    if not has_known_direction(monitor) or mode not in ("min", "max"):
        return
    right = "min" if is_lower_better(monitor) else "max"
    if mode != right:
        raise ConfigError(
            f"{path}.mode={mode}: {monitor} is best at its {right}; give {path}.mode={right}"
        )


def _check_value(path: str, value: Any, annotation: str | None) -> None:
    if annotation is None:
        return
    if is_duration(annotation) and isinstance(value, str | dict):
        check_duration(path, value)
        return
    accepted = list(_alternatives(ast.parse(annotation, mode="eval").body))
    if None in accepted or any(_fits(value, choice) for choice in accepted):
        return
    is_time = is_duration(annotation)
    wanted = "DD:HH:MM:SS" if is_time else " or ".join(str(choice) for choice in accepted)
    raise ConfigError(f"{path}={value}: wanted {wanted}, got {type(value).__name__} {value!r}")


def _alternatives(annotation: ast.expr) -> Iterator[Any]:
    """Yield the simple type names in an annotation; None for anything else."""
    match annotation:
        case ast.Constant(value=None):
            yield "None"
        case ast.Name(id=name) if name in _SIMPLE:
            yield name
        case ast.Name(id="Tensor" | "timedelta"):  # no value in a config is one
            return
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _alternatives(left)
            yield from _alternatives(right)
        case ast.Subscript(value=ast.Name(id="Sequence" | "list" | "tuple")):
            yield "list"
        case ast.Attribute(attr="Module") | ast.Name(id="Profiler"):
            yield _NODE
        case ast.Subscript(value=ast.Name(id="dict")):
            yield "dict"
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            yield from _alternatives(inner)
            yield "None"
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            for member in members:
                yield from _alternatives(member)
        case _:
            yield None


def _fits(value: Any, choice: str) -> bool:
    if isinstance(value, bool) and choice in ("int", "float"):
        return False
    if choice == _NODE:
        return isinstance(value, dict) and "_target_" in value
    return isinstance(value, _SIMPLE[choice])
