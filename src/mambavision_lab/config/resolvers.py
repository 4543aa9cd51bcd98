"""Register what the configs refer to: schemas and resolvers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config import schema
from mambavision_lab.config.mask_checks import trains_masks
from mambavision_lab.data.class_folders import count_classes
from mambavision_lab.data.resolvers import RESOLVERS, UNKNOWN
from mambavision_lab.errors import ConfigError
from mambavision_lab.metrics import main_metric

_SPARING_DATA = ("export", "explain")


def register() -> None:
    """Register schemas and resolvers; doing it again changes nothing."""
    schema.register()
    resolvers: dict[str, Callable[..., Any]] = {
        **RESOLVERS,
        "count_classes": _count_classes,
        "leaf": _leaf,
        "main_metric": _main_metric,
        "required": _required,
        "sweep_group": _sweep_group,
        "unpruned_run": _unpruned_run,
        "working_folder": lambda: str(Path.cwd()),
    }
    for name, answer in UNKNOWN.items():
        resolvers[name] = _or_unknown(resolvers[name], answer)
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _or_unknown(resolver: Callable[..., Any], answer: Any) -> Callable[..., Any]:
    """Let tasks that can do without data be composed where these are missing; who loads them is told why."""

    def resolve(*args: Any, _root_: DictConfig) -> Any:
        own = {"_root_": _root_} if resolver is _count_classes else {}
        try:
            return resolver(*args, **own)
        except ConfigError:
            if schema.task_of(_root_) not in _SPARING_DATA:
                raise
            return answer

    return resolve


def _count_classes(*data: Any, _root_: DictConfig) -> int:
    """Count the classes of a folder; in an evaluation it needs no training images."""
    return count_classes(*data, is_training=schema.task_of(_root_) != "eval")


def _main_metric(is_multilabel: bool, *, _root_: DictConfig) -> str:
    """Return the metric to choose checkpoints by, which follows from the labels, or from the task."""
    return main_metric(is_multilabel, trains_masks(_root_))


def _leaf(choice: str) -> str:
    """Return the last part of a choice such as nvidia/mambavision_t, for names of folders."""
    return str(choice).rpartition("/")[2]


def _required(key: str, meaning: str) -> None:
    """Refuse a config in which a value that an experiment needs was not given."""
    raise ConfigError(f"{key} is missing; give {key}=VALUE, {meaning}")


def _unpruned_run(*, _root_: DictConfig) -> str:
    """Return the run whose network a training prunes."""
    if not _root_.get("prune"):
        raise ConfigError(
            "loss=unpruned: is for experiment=prune; give loss=distillation loss.teacher.source=RUN"
        )
    return str(_root_.prune.source)


def _sweep_group() -> str | None:
    """Return the name that the runs of one sweep share, or None for a single run."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return None
    return "/".join(Path(hydra.runtime.output_dir).parts[-3:-1])
