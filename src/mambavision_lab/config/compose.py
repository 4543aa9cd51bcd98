"""Compose configs with Hydra, without `GlobalHydra`.

Source -> Composer(source, task, command) -> compose(overrides) -> config, its `hydra` node included
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

from mambavision_lab.config.paths import expand_home
from mambavision_lab.config.resolvers import register
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder

_HYDRA_DEFAULTS_OF = "1.3"  # such as: a job does not change the working folder


@dataclass(frozen=True)
class Source:
    """The folders that a command's configs come from.

    Attributes:
        name: Root config, such as "train".
        location: Folder or URI in which the root config lies.
        others: More folders or URIs, in which groups are searched after that one.
    """

    name: str
    location: str
    others: tuple[str, ...] = ()


def package_source(task: str) -> Source:
    """Return the source of a task's own root config, with nothing beside it."""
    return Source(task, str(configs_folder()))


class Composer:
    """Composes configs from one source.

    Args:
        source: Where the configs come from.
        task: Name of the task, for `hydra.job.name`.
        command: The command line, recorded in every config as `hydra.runtime.command`.
    """

    def __init__(self, source: Source, task: str, command: Sequence[str] = ()) -> None:
        version.setbase(_HYDRA_DEFAULTS_OF)
        register()
        search_path = create_config_search_path(source.location)
        for location in source.others:
            before_schemas = SearchPathQuery(provider="schema")
            search_path.prepend("mambavision_lab", location, before_schemas)
        self.source = source
        self.loader = _Loader(search_path, command)
        self.hydra = Hydra(task_name=task, config_loader=self.loader)

    def compose(self, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> DictConfig:
        """Compose a config from overrides.

        Raises:
            HydraException: It cannot be composed; `config.messages` makes one line of it.
            ConfigError: A file is no YAML.
        """
        given = [*overrides, f"hydra.mode={mode.name}"]
        try:
            return self.loader.load_configuration(self.source.name, given, mode)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f"{mark.name}, line {mark.line + 1}" if mark else "a config"
            raise ConfigError(f"{place}: {error.problem}; correct its YAML") from error


class _Loader(ConfigLoaderImpl):
    """Hydra's loader, which also expands `~` and records the command; launchers send it to workers."""

    def __init__(self, search_path: ConfigSearchPath, command: Sequence[str]) -> None:
        super().__init__(search_path)
        self.command = list(command)

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        cfg = super().load_configuration(*args, **kwargs)
        expand_home(cfg)
        with open_dict(cfg.hydra.runtime):
            cfg.hydra.runtime.command = self.command
        return cfg


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return a copy of a composed config without its `hydra` node."""
    own = cfg.copy()
    with read_write(own), open_dict(own):
        del own["hydra"]
    return own


def set_output_dir(cfg: DictConfig, folder: str | Path) -> None:
    """Set the run folder of a composed config, as Hydra does when a job starts.

    Raises:
        ConfigError: Hydra would take a part of its name for a reference.
    """
    check_folder_name(folder)
    with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
        cfg.hydra.runtime.output_dir = str(Path(folder).absolute())


def check_folder_name(folder: str | Path) -> None:
    """Refuse a run folder in whose name Hydra would find a reference.

    Raises:
        ConfigError: It has `${` in it.
    """
    if "${" in str(folder):
        raise ConfigError(f"{folder}: a run's folder cannot have ${{ in its name; give another")


@contextmanager
def hydra_config(cfg: DictConfig) -> Iterator[None]:
    """Let `${hydra:...}` refer to a composed config inside the block."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(cfg)
    try:
        yield
    finally:
        holder.cfg = before
