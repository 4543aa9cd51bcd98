"""The tasks from Python and notebooks: compose a config, then run it.

    cfg = compose("train", ["model=mambavision_small", "data=cifar10"])
    train(cfg)

Arguments are those of the command line; logs and data go below the working folder, unless the environment
variables MAMBAVISION_LOGS and MAMBAVISION_DATA name others.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config.check import check_config
from mambavision_lab.config.compose import hydra_config, without_hydra
from mambavision_lab.config.messages import one_line
from mambavision_lab.config.schema import SCHEMAS
from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.check_command import check_jobs
from mambavision_lab.launch.command_line import parse_command
from mambavision_lab.launch.prepared import open_command
from mambavision_lab.launch.resume import resolve_resume
from mambavision_lab.runs.folder import check_unused

# Composed configs with their `hydra` node, by run folder: tasks refer to it, and a user's config has none.
_composed: dict[str, DictConfig] = {}


def compose(
    task: str = "train", overrides: Sequence[str] = (), *, config_dir: str | Path | None = None
) -> DictConfig:
    """Compose and check the config of a task.

    Args:
        task: "train", "eval", "predict", "export", "analyze", "preview", "explain", "demo" or "serve".
        overrides: As on the command line: "data=cifar10", "optimizer.lr=1e-4", "from_run=logs/latest".
        config_dir: A folder of configs of your own, searched beside the package's.

    Returns:
        The config, with a run folder of its own; `train` and the others take it.

    Raises:
        ConfigError: It cannot be run; the message is one line.
    """
    if isinstance(overrides, str):
        raise ConfigError(f'overrides="{overrides}": wanted a list of them, ["{overrides}"]')
    if not isinstance(task, str) or task not in SCHEMAS:
        raise ConfigError(f"task={task}: no such task; choose {', '.join(SCHEMAS)}")
    flags = ["--config-dir", str(config_dir)] if config_dir is not None else []
    command = parse_command(task, [f"{task}.py", *flags, *overrides])
    if command.is_multirun or command.shows_only:
        raise ConfigError(
            "a flag of the command line: compose takes overrides such as data=cifar10"
        )
    _, cfg = check_jobs(open_command(resolve_resume(replace(command, argv=()))))
    with hydra_config(cfg):
        own = without_hydra(cfg)
        _fill_in(own)
    _composed[own.paths.output_dir] = cfg
    return own


def train(cfg: DictConfig) -> float | None:
    """Train a network and test its best checkpoint; returns the metric named by `optimized_metric`."""
    return _run("train", "train", cfg)


def evaluate(cfg: DictConfig) -> float:
    """Evaluate a checkpoint, for a config of the task "eval"; returns accuracy, mAP or mean Dice."""
    return _run("eval", "evaluate", cfg)


def predict(cfg: DictConfig) -> None:
    """Classify or segment files, for a config of the task "predict"."""
    _run("predict", "predict", cfg)


def export(cfg: DictConfig) -> None:
    """Write a network for another runtime, for a config of the task "export"."""
    _run("export", "export", cfg)


def analyze(cfg: DictConfig) -> None:
    """Count and measure what a network costs, for a config of the task "analyze"."""
    _run("analyze", "analyze", cfg)


def preview(cfg: DictConfig) -> None:
    """Look at a data set and its augmentation, for a config of the task "preview"."""
    _run("preview", "preview", cfg)


def explain(cfg: DictConfig) -> None:
    """Show what a network looks at, for a config of the task "explain"."""
    _run("explain", "explain", cfg)


def serve(cfg: DictConfig) -> None:
    """Classify images over HTTP until interrupted, for a config of the task "serve"."""
    _run("serve", "serve", cfg)


def _run(task: str, name: str, cfg: DictConfig) -> Any:
    """Run a task as the command does, its log in the run folder; the caller's logging stays.

    Args:
        task: Name of its root config.
        name: Name of its module in `mambavision_lab.tasks`, and of the function there.
        cfg: A config that `compose` returned.
    """
    composed = _composed.get(str(OmegaConf.select(cfg, "paths.output_dir")))
    if composed is None or OmegaConf.get_type(cfg) is not SCHEMAS[task]:
        raise ConfigError(
            f"{name}: this config was not composed here for it; "
            f"make one with mambavision_lab.compose({task!r})"
        )
    try:
        check_config(cfg)
        check_unused(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error, None)) from error
    function: Callable[[DictConfig], Any] = getattr(
        import_module(f"mambavision_lab.tasks.{name}"), name
    )
    folder = Path(cfg.paths.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / f"{composed.hydra.job.name}.log")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        with hydra_config(composed):
            return function(cfg)
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _fill_in(node: Any) -> None:
    """Replace references to Hydra's own config by their values: it is there for one config at a time."""
    keys = node.keys() if isinstance(node, DictConfig) else range(len(node))
    with read_write(node), open_dict(node):
        for key in keys:
            raw = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index]
            if isinstance(raw, str) and any(name in raw for name in ("${hydra:", "${sweep_group:")):
                node[key] = node[key]
            elif isinstance(raw, dict | list):
                _fill_in(node[key])
