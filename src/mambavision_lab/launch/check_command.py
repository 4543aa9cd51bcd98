"""Check every job that a command stands for, before the first starts; imports no torch.

Prepared(composer, overrides) -> check_jobs -> the composed config of a single job
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config import schema
from mambavision_lab.config.check import check_config, check_extra, check_nodes
from mambavision_lab.config.command_options import check_same_sweep, check_used
from mambavision_lab.config.compose import (
    hydra_config,
    set_output_dir,
    without_hydra,
)
from mambavision_lab.config.group_checks import suggest
from mambavision_lab.config.messages import one_line, with_meaning
from mambavision_lab.config.overrides import key_of, to_type
from mambavision_lab.config.paths import UNSWEPT
from mambavision_lab.config.shadowed import check_shadowed
from mambavision_lab.config.trust import check_links, check_trust
from mambavision_lab.counting import counted
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import list_choices
from mambavision_lab.launch.prepared import Prepared, without_values
from mambavision_lab.launch.sweeps.grid import GridSearch
from mambavision_lab.launch.sweeps.search import Search
from mambavision_lab.launch.sweeps.sweep import check_sweep_folder
from mambavision_lab.runs.folder import check_unused, is_resuming
from mambavision_lab.runs.settings import check_same_as_run

_ENDLESS = ("serve", "demo")
_NOWHERE = "checked-before-it-exists"  # the run folder of a sweep's job while it is checked


def check_jobs(prepared: Prepared) -> tuple[list[list[str]], DictConfig]:
    """Compose and check every job of a command.

    Returns:
        The overrides of each job, and the composed config of the first, `hydra` included.

    Raises:
        ConfigError: One of them cannot be run; the message is one line.
    """
    command = prepared.command
    if command.is_multirun and command.task in _ENDLESS:
        raise ConfigError(f"-m: {command.task}.py runs until it is stopped; start it for each")
    for override in prepared.overrides:
        check_used(override, is_multirun=command.is_multirun)
        check_extra(override)
        _check_choice(prepared, override)
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
                folder = OmegaConf.select(cfg, "hydra.run.dir", throw_on_missing=True)
            set_output_dir(cfg, folder)
        with hydra_config(cfg):
            _check_trust(prepared, cfg)
            check_nodes(OmegaConf.to_container(cfg.hydra.sweeper), "hydra.sweeper")
            own = without_hydra(cfg)
            known = [field.name for field in fields(schema.SCHEMAS[prepared.command.task])]
            if unknown := [str(key) for key in own if key not in known]:  # given with a +
                raise ConfigError(f"{unknown[0]}: no such option; {suggest(unknown[0], known)}")
            if deleted := [key for key in known if key not in own]:
                key, task = deleted[0], prepared.command.task
                if own.get("model_file") and f"~{key}" not in overrides:
                    raise ConfigError(
                        f"model_file={own.model_file}: lies in no run folder, from which {task}.py "
                        f"takes its {key}; leave it in RUN/exports/, or give {key}=..."
                    )
                if f"~{key}" not in overrides:
                    raise ConfigError(f"{key} is missing; give {key}=VALUE")
                raise ConfigError(f"{key}: is deleted, and {task}.py needs it; leave out ~{key}")
            _check_verbose(cfg.hydra.verbose)
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
        raise ConfigError(one_line(error, without_values(prepared, overrides))) from error


def _check_verbose(value: Any) -> None:
    """Refuse what Hydra's logging does not take."""
    names = value if OmegaConf.is_list(value) else [value]
    if not isinstance(value, bool) and not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"hydra.verbose={value}: wanted true, false, or names of loggers such as [mambavision_lab]"
        )


def _check_choice(prepared: Prepared, override: str) -> None:
    """Refuse a number, a mapping or the like as a choice of a group, for which Hydra has no message."""
    parsed = _parse(OverridesParser.create(config_loader=prepared.composer.loader), override)
    choices = list_choices(parsed.key_or_group) if parsed.key_or_group else []
    if not choices or parsed.is_delete() or parsed.is_sweep_override():
        return
    value: Any = parsed.value()
    for choice in [] if value is None else value if isinstance(value, list) else [value]:
        if not isinstance(choice, str):
            raise ConfigError(f"{override}: no such choice; {suggest(str(choice), choices)}")


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
    print(f"check: {counted(len(jobs), 'jobs')} checked, nothing wrong, nothing started")
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
