"""Register what the configs refer to."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from mambavision_lab.config import schema
from mambavision_lab.data.class_folders import count_classes
from mambavision_lab.errors import ConfigError


def prepare() -> None:
    """Register what the configs refer to: schemas and resolvers."""
    schema.register()
    OmegaConf.register_new_resolver("count_classes", count_classes, replace=True)
    OmegaConf.register_new_resolver("required", _required, replace=True)
    # The last part of a choice such as nvidia/mambavision_t, for names of folders.
    OmegaConf.register_new_resolver(
        "leaf", lambda choice: str(choice).rpartition("/")[2], replace=True
    )
    OmegaConf.register_new_resolver("sweep_group", _sweep_group, replace=True)


def _required(key: str, what: str) -> None:
    """Refuse a config in which a value that an experiment needs was not given."""
    raise ConfigError(f"{key} is missing; give {key}=VALUE, {what}")


def _sweep_group() -> str | None:
    """Name that the runs of one sweep share, or None for a run of its own."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return None
    return "/".join(Path(hydra.runtime.output_dir).parts[-3:-1])
