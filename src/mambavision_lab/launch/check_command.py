"""Check every job that a command stands for, before the first starts; imports no torch.

Command -> open_command -> Prepared(composer, overrides) -> check_jobs -> the composed config of a single job
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config import schema
from mambavision_lab.config.check import check_config, check_extra, check_nodes
from mambavision_lab.config.command_options import check_same_sweep, check_used
from mambavision_lab.config.compose import (
    Composer,
    Source,
    hydra_config,
    set_output_dir,
    without_hydra,
)
from mambavision_lab.config.group_checks import suggest
from mambavision_lab.config.messages import one_line, with_meaning
from mambavision_lab.config.overrides import key_of, to_type
from mambavision_lab.config.paths import UNSWEPT, exists, path_override, read_path
from mambavision_lab.config.shadowed import check_shadowed
from mambavision_lab.config.trust import check_links, check_trust
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import BEST_CHECKPOINT, configs_folder, list_choices
from mambavision_lab.launch.command_line import Command
from mambavision_lab.launch.sweeps.grid import GridSearch
from mambavision_lab.launch.sweeps.search import Search
from mambavision_lab.launch.sweeps.sweep import check_sweep_folder
from mambavision_lab.runs.folder import check_unused, is_resuming
from mambavision_lab.runs.settings import check_same_as_run
from mambavision_lab.runs.snapshot import find_snapshot, find_snapshot_around

_NOWHERE = "checked-before-it-exists"  # the run folder of a sweep's job while it is checked


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
            raise ConfigError(one_line(error, _without_values(self, self.overrides))) from error


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


def check_jobs(prepared: Prepared) -> tuple[list[list[str]], DictConfig]:
    """Compose and check every job of a command.

    Returns:
        The overrides of each job, and the composed config of the first, `hydra` included.

    Raises:
        ConfigError: One of them cannot be run; the message is one line.
    """
    command = prepared.command
    for override in prepared.overrides:
        check_used(override, is_multirun=command.is_multirun)
        check_extra(override)
    jobs = [*list_jobs(prepared)]
    first = None
    for job in jobs:
        cfg = check_job(prepared, job)
        if first is None:
            check_shadowed(cfg)
        first = first or cfg
        if command.is_multirun:
            check_same_sweep(job, cfg, prepared.sweep)
    if command.is_multirun:
        try:
            with hydra_config(prepared.sweep):
                check_sweep_folder(prepared.sweep)
        except OmegaConfBaseException as error:
            raise ConfigError(one_line(error, None)) from error
    assert first is not None
    return jobs, first


def check_job(prepared: Prepared, overrides: list[str]) -> DictConfig:
    """Compose one job's config and check it; returns it, `hydra` included.

    Raises:
        ConfigError: It cannot be composed or does not fit; the message is one line.
    """
    for override in overrides:
        _check_choice(prepared, override)
        group, _, choice = override.partition("=")
        if choice == "null" and (choices := list_choices(group)):
            if group == "experiment":
                raise ConfigError("experiment=null: is what it is without; leave it out")
            raise ConfigError(f"{override}: no such choice; {suggest('null', choices)}")
    try:
        cfg = prepared.composer.compose(overrides)
        set_output_dir(cfg, _NOWHERE)
        if not prepared.command.is_multirun:
            with hydra_config(cfg):
                folder = OmegaConf.select(cfg, "hydra.run.dir")
            set_output_dir(cfg, folder)
        with hydra_config(cfg):
            _check_trust(prepared, cfg)
            check_nodes(OmegaConf.to_container(cfg.hydra.sweeper), "hydra.sweeper")
            own = without_hydra(cfg)
            known = [field.name for field in fields(schema.SCHEMAS[prepared.command.task])]
            if unknown := [str(key) for key in own if key not in known]:  # given with a +
                raise ConfigError(f"{unknown[0]}: no such option; {suggest(unknown[0], known)}")
            try:
                check_config(own)
            except ConfigError as error:
                raise with_meaning(error, own) from error
            if not prepared.command.is_multirun and not prepared.command.is_restart:
                check_unused(own)
            if prepared.command.task == "train":
                check_same_as_run(own)
                if is_resuming(own) and not prepared.command.is_trusting:
                    check_links(Path(own.paths.output_dir))
        return cfg
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error, _without_values(prepared, overrides))) from error


def _check_choice(prepared: Prepared, override: str) -> None:
    """Refuse a number, a mapping or the like as a choice of a group, for which Hydra has no message."""
    parsed = _parse(OverridesParser.create(config_loader=prepared.composer.loader), override)
    choices = list_choices(parsed.key_or_group) if parsed.key_or_group else []
    if choices and not parsed.is_delete() and not isinstance(parsed.value(), str | list | None):
        raise ConfigError(f"{override}: no such choice; {suggest(str(parsed.value()), choices)}")


def _check_trust(prepared: Prepared, node: DictConfig, path: str = "") -> None:
    """Check what the command takes from a run's folder, unless its user trusts that."""
    source = prepared.composer.source
    runs = [x for x in (source.location, *source.others) if x.startswith("run://")]
    if runs and not prepared.command.is_trusting:
        run = Path(runs[0].removeprefix("run://")).parent
        check_trust(OmegaConf.to_container(node), run, prepared.command.overrides, path)


def list_jobs(prepared: Prepared) -> Iterator[list[str]]:
    """Yield the overrides of each job that a command stands for.

    Raises:
        ConfigError: The overrides cannot be parsed, or ask for a sweep without -m.
    """
    overrides, is_multirun = prepared.overrides, prepared.command.is_multirun
    parser = OverridesParser.create(config_loader=prepared.composer.loader)  # for glob(*)
    parsed = [_parse(parser, override) for override in overrides]
    sweeps = [o.input_line for o in parsed if o.is_sweep_override()]
    if not is_multirun:
        if sweeps:
            raise ConfigError(f"{sweeps[0]}: several values need a sweep; add -m")
        yield overrides
        return
    for override in sweeps:
        if override and key_of(override).partition(".")[0] in UNSWEPT:
            raise ConfigError(
                f"{override}: how a sweep is run cannot itself be swept; give one value"
            )
    try:
        yield from _search_class(prepared).probes(parsed)
    except HydraException as error:
        raise ConfigError(one_line(error, None)) from error


def _parse(parser: OverridesParser, override: str) -> Override:
    """Parse one override; parser also lists the choices of a glob."""
    try:
        return parser.parse_overrides([override])[0]
    except HydraException as error:
        why = f"{override}: {one_line(error, None)}; wanted key=value"
        key, equals, value = override.partition("=")
        if equals and value[:1] not in ("{", "'", '"'):
            why += f"; to take it as text, type {to_type(key, value)}"
        raise ConfigError(why) from error


def show_check(jobs: list[list[str]], first: DictConfig, is_multirun: bool) -> None:
    """Print that a command was found to be right, its jobs, and the first one's config."""
    print(f"check: {len(jobs)} job{'s' * (len(jobs) > 1)} checked, nothing wrong, nothing started")
    if is_multirun:
        print("\n".join(f"  {' '.join(job)}" for job in jobs))
    with hydra_config(first):
        print(OmegaConf.to_yaml(without_hydra(first), resolve=True), end="")


def _search_class(prepared: Prepared) -> type[Search]:
    """Return the class of the search that the sweep's node names."""
    node = OmegaConf.select(prepared.sweep, "sweep.search")
    if node is None:  # some tasks have no such node
        return GridSearch
    target = node.get("_target_")
    _check_trust(prepared, node, "sweep.search")
    check_nodes(OmegaConf.to_container(node), "sweep.search")
    found = get_class(target) if target else None
    if found is None or not (hasattr(found, "probes") and hasattr(found, "batches")):
        raise ConfigError(
            f"sweep.search._target_={target}: wanted a class with probes and batches, such as "
            f"{GridSearch.__module__}.GridSearch"
        )
    return found


def _without_values(prepared: Prepared, overrides: list[str]) -> DictConfig | None:
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
