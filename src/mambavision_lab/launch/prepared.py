"""Find where the configs of a command come from; imports no torch.

Command -> open_command -> Prepared(composer, overrides)
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config import schema
from mambavision_lab.config.compose import Composer, Source
from mambavision_lab.config.messages import one_line
from mambavision_lab.config.model_file import refuse_changes
from mambavision_lab.config.overrides import key_of
from mambavision_lab.config.paths import exists, path_override, read_path
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import BEST_CHECKPOINT, PRUNED_WEIGHTS, configs_folder
from mambavision_lab.launch.command_line import Command
from mambavision_lab.runs.snapshot import find_snapshot, find_snapshot_around


@dataclass(frozen=True)
class Prepared:
    """A command whose configs can be composed.

    Attributes:
        command: The command itself.
        composer: Composes its configs.
        overrides: The overrides to compose them from.
        snapshot: Snapshot of the run that a training is composed from, or None.
    """

    command: Command
    composer: Composer
    overrides: list[str]
    snapshot: Path | None

    @cached_property
    def sweep(self) -> DictConfig:
        """The config of the sweep itself, which holds nothing of what its jobs vary."""
        try:
            return self.composer.compose(self.overrides, RunMode.MULTIRUN)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error, without_values(self, self.overrides))) from error


def open_command(command: Command) -> Prepared:
    """Find where a command's configs come from: the package, a run's snapshot, the user's folders.

    Raises:
        ConfigError: A folder or run that it names is not there.
    """
    flags = command.flags
    name, location, others = command.task, str(configs_folder()), []
    overrides = [_without_links(override) for override in command.overrides]
    if command.task == "explain" and not command.is_multirun:
        overrides = [_methods_as_list(override) for override in overrides]
    snapshot = None
    if command.from_run is not None:
        found = find_snapshot(command.from_run, "from_run").resolve()
        if command.task == "train":
            if flags.config_name or flags.config_path:
                raise ConfigError(
                    f"from_run={command.from_run}: composes from the run's snapshot; remove "
                    "--config-name and --config-path"
                )
            snapshot = found
            overrides += _moved_weights(found, overrides)
            if "experiment=prune" in overrides and "prune.source" not in map(key_of, overrides):
                overrides.append(path_override("prune.source", found.parent))
            name, location, others = "snapshot", f"run://{snapshot}", [location]
        elif command.task == "preview":  # of the run's data, unless others are given
            others.append(f"run://{found}")
            chosen = {key_of(override) for override in overrides}
            overrides[:0] = [
                f"{node}=snapshot" for node in ("data", "augment") if node not in chosen
            ]
        else:  # these start from the run's checkpoint
            if given := [o for o in overrides if key_of(o) == "ckpt_path"]:
                raise ConfigError(
                    f"from_run={command.from_run} {given[0]}: both name a checkpoint; give one of them"
                )
            overrides.append(path_override("ckpt_path", found.parent / BEST_CHECKPOINT))
    if schema.SCHEMAS[command.task].uses_snapshot:
        others += _snapshot_of_network(command, overrides)
    if flags.config_path is not None:
        location, others = _folder("--config-path", flags.config_path), [location, *others]
    if flags.config_dir is not None:
        others.append(_folder("--config-dir", flags.config_dir))
    source = Source(flags.config_name or name, location, tuple(others))
    return Prepared(command, Composer(source, command.task, command.argv), overrides, snapshot)


def _moved_weights(snapshot: Path, overrides: list[str]) -> list[str]:
    """Name the weights that a pruned run started from, where its folder lies now."""
    stored, own = snapshot / "model" / "snapshot.yaml", snapshot.parent / PRUNED_WEIGHTS
    if not own.is_dir() or {"model", "model.pretrained"} & {key_of(o) for o in overrides}:
        return []
    given = Path(OmegaConf.select(OmegaConf.load(stored), "pretrained") or "")
    is_moved = given.name == PRUNED_WEIGHTS and not given.exists()
    return [path_override("model.pretrained", own)] if is_moved else []


def _snapshot_of_network(command: Command, overrides: list[str]) -> list[str]:
    """Find the snapshot around the checkpoint, or the exported file, that a task uses; there may be none.

    Raises:
        ConfigError: A checkpoint without its run, none, or both.
    """
    values = {key_of(o): read_path(o.partition("=")[2]) for o in overrides}
    checkpoint, model_file = (values.get(key) for key in ("ckpt_path", "model_file"))
    if model_file is not None:
        if checkpoint is not None:
            raise ConfigError(
                f"model_file={model_file} ckpt_path={checkpoint}: both name a network; give one of them"
            )
        refuse_changes(model_file, overrides)
        overrides.append("ckpt_path=null")
        has_run = find_snapshot_around(Path(model_file)) is not None
        return [f"run://{find_snapshot(model_file, 'model_file')}"] if has_run else []
    if checkpoint is not None:
        return [f"run://{find_snapshot(checkpoint)}"]
    if not command.shows_only and schema.SCHEMAS[command.task].ckpt_path == "???":
        takes_file = hasattr(schema.SCHEMAS[command.task], "model_file")
        raise ConfigError(
            "ckpt_path is missing; give from_run=RUN, or ckpt_path=RUN/checkpoints/best.ckpt"
            + (", or model_file=FILE" if takes_file else "")
        )
    return []


def without_values(prepared: Prepared, overrides: list[str]) -> DictConfig | None:
    """Compose with the user's choices of groups but none of the single values, for suggestions."""
    groups = {path.name for path in configs_folder().iterdir() if path.is_dir()}
    chosen = [o for o in overrides if key_of(o) in {*groups, "hydra.searchpath"}]
    try:
        return prepared.composer.compose(chosen)
    except HydraException:
        return None


def _without_links(override: str) -> str:
    """Name the real file or folder of weights: logs/latest will point elsewhere before it is read."""
    key, _, value = override.partition("=")
    path = read_path(value)
    if (
        key_of(override) not in ("ckpt_path", "model_file", "model.pretrained")
        or not path
        or not exists(path)
    ):
        return override
    return path_override(key, Path(path).resolve())


def _methods_as_list(override: str) -> str:
    """Read method=scan,attention as one list: without -m it can be nothing else."""
    key, _, value = override.partition("=")
    return f"method=[{value}]" if key == "method" and value[:1] not in ("[", "") else override


def _folder(flag: str, given: str) -> str:
    folder = Path(read_path(given)).absolute()
    if not folder.is_dir():
        raise ConfigError(f"{flag} {given}: no such folder; give a folder of configs")
    return f"file://{folder}"
