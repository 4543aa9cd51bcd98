"""Store a run's own configuration as a folder of configs from which Hydra can compose again.

`snapshot/<node>/snapshot.yaml` holds each node as it was composed, interpolations and all, so that
`data=cifar100` on top still reaches the model; `as_trained.yaml` beside it holds the same node with
every value filled in, for what must stay as it was. `sha256sum -c checksums.sha256` in the folder
finds what has been edited.
"""

import hashlib
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.overrides import escaped
from mambavision_lab.config.schema import task_of
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import WEIGHTS, write_atomically

FOLDER = "snapshot"
CHECKSUMS = "checksums.sha256"
_PRIMARY = "snapshot.yaml"


def write_snapshot(cfg: DictConfig, run_folder: Path) -> None:
    """Write the snapshot of a composed config into a run folder."""
    folder = run_folder / FOLDER
    folder.mkdir(exist_ok=True)
    composed = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))
    resolved = _literal(OmegaConf.to_container(_with_ops_unresolved(cfg), resolve=True))
    composed["paths"]["output_dir"] = "${hydra:runtime.output_dir}"  # each run has its own
    nodes = [key for key, value in composed.items() if isinstance(value, dict)]
    for node in nodes:
        (folder / node).mkdir(exist_ok=True)
        _save(composed[node], folder / node / _PRIMARY)
        if node != "ops":  # what runs the network is each command's own choice
            _save(resolved[node], folder / node / "as_trained.yaml")
    # Groups that are switched off: another choice can still be made on top.
    absent = [key for key in _groups() if key in resolved and resolved[key] is None]
    for group in absent:
        (folder / group).mkdir(exist_ok=True)
        (folder / group / _PRIMARY).write_text(f"# @package _global_\n{group}: null\n")
    # Outside the nodes a value that refers to Hydra's choices would change with them: filled in.
    scalars = {key: value for key, value in resolved.items() if key not in [*nodes, *absent]}
    schema = [f"{task}_schema"] if (task := task_of(cfg)) else []
    choices = [{key: "snapshot"} for key in [*nodes, *absent]]
    later = [{"experiment": None}] if "experiment" in _groups() else []
    defaults = [*schema, {"optional hydra": "default"}, *choices, "_self_", *later]
    _save({"defaults": defaults, **scalars}, folder / _PRIMARY)
    if "run" not in nodes:  # a training run's own name, for the tasks that follow it
        (folder / "run").mkdir(exist_ok=True)
        _save({"name": resolved["name"]}, folder / "run" / "as_trained.yaml")
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in _files_in(folder)]
    write_atomically(folder / CHECKSUMS, "".join(lines))


def is_complete(run_folder: Path) -> bool:
    """Return whether a run folder has its snapshot: the run was not killed before it was written."""
    return (run_folder / FOLDER / CHECKSUMS).is_file()


def _with_ops_unresolved(cfg: DictConfig) -> DictConfig:
    """Return a copy in which references to `ops` survive: a network may later run on another backend."""
    copied = cfg.copy()
    for name, options in (cfg.get("ops") or {}).items():
        for key in options:
            OmegaConf.update(copied, f"ops.{name}.{key}", f"\\${{ops.{name}.{key}}}")
    return copied


def _literal(node: Any) -> Any:
    """Escape each `${` of resolved values, such as that of a folder's name; references to ops stay."""
    if isinstance(node, dict):
        return {key: _literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_literal(value) for value in node]
    is_literal = isinstance(node, str) and not node.startswith("${ops.")
    return escaped(node) if is_literal else node


def find_snapshot(path: str, option: str = "ckpt_path") -> Path:
    """Find the snapshot folder of the run that a path belongs to: its folder or anything in it.

    Args:
        path: A run folder, a checkpoint in it, or a folder that holds a copy of the snapshot, such
            as a downloaded W&B artifact.
        option: What the user gave the path with, for messages.

    Raises:
        ConfigError: Nothing is at path, it lies in no run folder, or the snapshot was edited.
    """
    start = Path(path).absolute()
    if not start.exists():
        raise ConfigError(
            f"{option}={path}: no such file or folder; give {_WANTED.get(option, 'a run folder')}"
        )
    found = find_snapshot_around(start)
    if found is not None:
        _check_unedited(found, option, path)
        return found
    folder = start.parent if start.name == WEIGHTS else start
    if (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"{option}={path}: holds weights and no run; predict.py, eval.py and serve.py take them with "
            f"model_file={folder / WEIGHTS}, train.py with model.pretrained={folder}"
        )
    raise ConfigError(
        f"{option}={path}: no run folder around it; give {_WANTED.get(option, 'a run folder')}, "
        f"with {FOLDER}/ in the run's folder"
    )


def find_snapshot_around(path: Path) -> Path | None:
    """Find the snapshot folder of the run that a path lies in; None where it lies in no run folder."""
    for folder in (path.absolute(), *path.absolute().parents):
        for candidate in (folder / FOLDER, folder):
            if (candidate / _PRIMARY).is_file() and (candidate / CHECKSUMS).is_file():
                return candidate
    return None


_WANTED = {
    "ckpt_path": "a checkpoint in its run's folder, such as logs/latest/checkpoints/best.ckpt",
    "from_run": "the folder of a run, such as logs/latest",
    "resume": "the folder of a run, such as logs/latest, or auto",
    "model_file": "a file that export.py wrote, such as RUN/exports/model.onnx",
}


def _check_unedited(folder: Path, option: str, given: str) -> None:
    lines = (folder / CHECKSUMS).read_text().splitlines()
    known = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {name: _sha256(folder / name) for name in _files_in(folder)}
    if edited := sorted(name for name in {*known, *found} if known.get(name) != found.get(name)):
        raise ConfigError(
            f"{option}={given}: the run's snapshot has been edited since ({edited[0]}); "
            "restore the file, and give changes on the command line"
        )


def _files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _groups() -> list[str]:
    """Return the groups that the composition chose from."""
    if not HydraConfig.initialized():
        return []
    choices = HydraConfig.get().runtime.choices
    return [str(key) for key in choices if "/" not in str(key) and key not in ("hydra", "paths")]


def _save(content: Any, path: Path) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(content)), encoding="utf-8")
