"""The decorator of the entry points: Hydra, with every config checked before anything starts.

Exit status: 0 done, 2 what was asked for cannot be run (one line, no traceback), 1 the run failed
(with its traceback), 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config import schema
from mambavision_lab.config.check import check_config, check_extra, check_nodes, suggest
from mambavision_lab.config.help import help_text
from mambavision_lab.config.messages import one_line
from mambavision_lab.config.resolvers import prepare
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder
from mambavision_lab.launch.command_line import Command, read_command
from mambavision_lab.launch.distributed import external
from mambavision_lab.launch.distributed.devices import get_max_restarts
from mambavision_lab.launch.distributed.environment import find_launch
from mambavision_lab.launch.distributed.signals import stopping_on_signals
from mambavision_lab.launch.sweeps.jobs import is_sweep_job, run_recorded
from mambavision_lab.launch.sweeps.search import Search
from mambavision_lab.launch.sweeps.sweep import check_resume
from mambavision_lab.runs.provenance import differences
from mambavision_lab.runs.snapshot import find_snapshot

Task = Callable[[DictConfig], Any]


class Source(NamedTuple):
    """Where a command's config comes from: a folder of configs, and the root config in it."""

    folder: Path
    name: str


def hydra_app(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a task the main function of a script that is configured by `configs/<config_name>.yaml`."""

    def decorate(task: Task) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            folder = Path(task.__code__.co_filename).resolve().parent
            os.environ.setdefault("MAMBAVISION_ROOT", str(folder))
            with stopping_on_signals():
                try:
                    command = read_command(config_name)

                    def run_command(changed: Command) -> None:
                        sys.argv += changed.overrides[len(command.overrides) :]
                        run(task, config_name)

                    launch = find_launch()
                    if launch is None:
                        run_command(command)
                    else:
                        external.join(command, run_command, task, launch)
                except ConfigError as error:
                    refuse(error)

        return main

    return decorate


def refuse(error: ConfigError) -> NoReturn:
    """Print why the command cannot be run, on one line, and exit with status 2."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)


def run(task: Task, config_name: str) -> None:
    """Check the command line in `sys.argv`, then let Hydra run the task for it.

    Raises:
        ConfigError: The command cannot be run; the message is one line.
    """
    prepare()
    _put_flags_first()
    sys.argv[1:] = [_without_links(argument) for argument in sys.argv[1:]]
    wants_check = _switch("check")
    source = Source(configs_folder(), config_name)
    from_run = _take("from_run")
    if from_run is not None:
        source = _use_run(from_run, config_name)
    arguments = get_args_parser().parse_args()
    if arguments.help:
        print(help_text(config_name))
        return
    if arguments.cfg and arguments.multirun:
        raise ConfigError("--cfg shows the config of one job; give check=true for those of a sweep")
    wants_run = (
        not any((arguments.hydra_help, arguments.cfg, arguments.info))
        and not arguments.shell_completion
    )
    if schema.SCHEMAS[config_name].uses_snapshot:
        _use_snapshot(arguments.overrides, wants_run)
    if wants_run:
        check_command(source, config_name, arguments.overrides, bool(arguments.multirun))
    if wants_check:
        show_check(source, arguments.overrides, bool(arguments.multirun))
        return

    @wraps(task)
    def job(cfg: DictConfig) -> Any:
        prepare()  # a launcher may run this in a fresh process
        runtime: Any = HydraConfig.get().runtime
        with read_write(runtime), open_dict(runtime):
            runtime.command = [*sys.argv]
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            if is_sweep_job(folder):
                return run_recorded(task, cfg, folder)
            return task(cfg)
        except ConfigError as error:
            if is_sweep_job(folder):
                raise  # the sweep goes on and reports at its end
            refuse(error)
        finally:
            wandb = sys.modules.get("wandb")
            if wandb is not None and wandb.run is not None:
                wandb.finish()  # or the next job of a sweep would go on writing into this run

    # Let exceptions through; Hydra would otherwise shorten tracebacks and choose the exit status.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(source.folder), config_name=source.name)(
            job
        )()
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from error
        if wants_run:
            raise
        raise ConfigError(one_line(error, None)) from error


def _put_flags_first() -> None:
    """Let flags stand anywhere: argparse takes overrides from one place only, here the end.

    Raises:
        ConfigError: A flag is unknown, or lacks its value.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        arguments, unknown = parser.parse_known_intermixed_args()
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such flag; see --help and --hydra-help")
    flags = [argument for argument in sys.argv[1:] if argument not in arguments.overrides]
    if arguments.info is None:  # its value may be left out, where nothing follows
        sys.argv[1:] = [*flags, *arguments.overrides]


def _without_links(argument: str) -> str:
    """Name the real file or folder of weights: logs/latest will point elsewhere before it is read."""
    key, _, value = argument.partition("=")
    is_there = key in ("ckpt_path", "model.pretrained") and value and Path(value).exists()
    return f"{key}={Path(value).resolve()}" if is_there else argument


def check_command(
    source: Source, config_name: str, overrides: list[str], is_multirun: bool
) -> None:
    """Check every job that a command stands for, before the first starts.

    Raises:
        ConfigError: One of them cannot be run; the message is one line.
    """
    resume = [o.partition("=")[2].strip("'\"") for o in overrides if _key(o) == "sweep.resume"]
    if resume and not is_multirun:
        raise ConfigError(f"sweep.resume={resume[-1]}: only a sweep can be resumed; add -m")
    for job in _jobs(overrides, is_multirun, source):
        check_job(config_name, job, source)
    if resume and resume[-1] != "null":
        check_resume(resume[-1], overrides, config_name)


def check_job(config_name: str, overrides: list[str], source: Source | None = None) -> None:
    """Compose one job's config and check it.

    Raises:
        ConfigError: It cannot be composed or does not fit; the message is one line.
    """
    source = source or Source(configs_folder(), config_name)
    for override in overrides:
        group, _, choice = override.partition("=")
        if choice == "null" and group != "experiment" and (configs_folder() / group).is_dir():
            choices = [path.stem for path in (configs_folder() / group).glob("*.yaml")]
            raise ConfigError(f"{override}: no such choice; {suggest('null', choices)}")
        check_extra(override)
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(source.folder)):
        try:
            cfg = hydra.compose(source.name, overrides=overrides, return_hydra_config=True)
            with open_dict(cfg):
                cfg.hydra.runtime.output_dir = "checked-before-it-exists"
            HydraConfig.instance().set_config(cfg)
            check_nodes(OmegaConf.to_container(cfg.hydra.sweeper), "hydra.sweeper")
            with open_dict(cfg):
                del cfg["hydra"]
            known = [field.name for field in fields(schema.SCHEMAS[config_name])]
            if unknown := [str(key) for key in cfg if key not in known]:  # given with a +
                raise ConfigError(f"{unknown[0]}: no such option; {suggest(unknown[0], known)}")
            check_config(cfg)
            get_max_restarts(cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error, _without_values(source, overrides))) from error


def show_check(source: Source, overrides: list[str], is_multirun: bool) -> None:
    """Print that a command was found to be right, its jobs, and the first one's config."""
    jobs = [*_jobs(overrides, is_multirun, source)]
    print(f"check: {len(jobs)} job{'s' * (len(jobs) > 1)} checked, nothing wrong, nothing started")
    if is_multirun:
        print("\n".join(f"  {' '.join(job)}" for job in jobs))
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(source.folder)):
        cfg = hydra.compose(source.name, overrides=jobs[0], return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = "DRAWN-AT-THE-START"
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    print(OmegaConf.to_yaml(cfg, resolve=True), end="")


def _jobs(
    overrides: list[str], is_multirun: bool, source: Source | None = None
) -> Iterator[list[str]]:
    """The overrides of each job that the command stands for."""
    source = source or Source(configs_folder(), "train")
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(source.folder)):
        loader = GlobalHydra.instance().config_loader()  # knows the choices of glob(*)
    try:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    except HydraException as error:
        raise ConfigError(f"{one_line(error, None)}; wanted key=value") from error
    sweeps = [o.input_line for o in parsed if o.is_sweep_override()]
    if not is_multirun:
        if sweeps:
            raise ConfigError(f"{sweeps[0]}: several values need a sweep; add -m")
        yield overrides
        return
    for own in sweeps:
        if own and _key(own).partition(".")[0] in ("sweep", "hydra"):
            raise ConfigError(f"{own}: how a sweep is run cannot itself be swept; give one value")
    try:
        yield from search_class(source, overrides).probes(parsed)
    except HydraException as error:
        raise ConfigError(one_line(error, None)) from error


def search_class(source: Source, overrides: list[str]) -> type[Search]:
    """The class of the search that the command's `sweep` group names."""
    chosen = [o for o in overrides if _key(o) == "sweep" or o.startswith("hydra.searchpath")]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(source.folder)):
        try:
            given = next(
                (o.partition("=")[2] for o in reversed(chosen) if _key(o) == "sweep"), None
            )
            if given is None:
                given = "snapshot" if source.name == "snapshot" else "grid"
            group = source.folder / "sweep" / f"{given}.yaml"
            path = group if group.is_file() else configs_folder() / "sweep" / f"{given}.yaml"
            if not path.is_file():
                choices = [path.stem for path in (configs_folder() / "sweep").glob("*.yaml")]
                raise ConfigError(f"sweep={given}: no such choice; {suggest(given, choices)}")
            return get_class(OmegaConf.load(path)._target_)
        except HydraException as error:
            raise ConfigError(one_line(error, None)) from error


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _take(key: str) -> str | None:
    """Remove key=... from the command line; returns its value."""
    given = [argument for argument in sys.argv[1:] if argument.startswith(f"{key}=")]
    if not given:
        return None
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument not in given]
    return given[-1].partition("=")[2].strip("'\"")


def _switch(key: str) -> bool:
    """Remove key=true or key=false from the command line; returns which."""
    given = (_take(key) or "false").lower()
    if given not in ("true", "false"):
        raise ConfigError(f"{key}={given}: wanted true or false")
    return given == "true"


def _use_run(run: str, config_name: str) -> Source:
    """Let Hydra compose from a run's snapshot, with our groups beside it; say what differs."""
    snapshot = find_snapshot(run, "from_run").resolve()
    if config_name != "train":  # these start from the run's checkpoint
        sys.argv.append(f"ckpt_path={snapshot.parent / 'checkpoints' / 'best.ckpt'}")
        return Source(configs_folder(), config_name)
    sys.argv.append(f"hydra.searchpath=['file://{configs_folder()}']")
    for line in differences(snapshot):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    return Source(snapshot, "snapshot")


def _use_snapshot(overrides: list[str], wants_run: bool) -> None:
    """Add the snapshot of the checkpoint's run to the places where Hydra looks for configs."""
    given = [o.partition("=")[2] for o in overrides if o.startswith("ckpt_path=")]
    if not given:
        if wants_run:
            raise ConfigError("ckpt_path is missing; give ckpt_path=RUN/checkpoints/best.ckpt")
        return
    folder = find_snapshot(given[-1].strip("'\""))
    search = f"hydra.searchpath=['file://{folder}']"
    overrides.append(search)
    sys.argv.append(search)


def _without_values(source: Source, overrides: list[str]) -> DictConfig | None:
    """The config with the user's choices of groups but none of the single values, for suggestions."""
    groups = {path.name for path in configs_folder().iterdir() if path.is_dir()}
    chosen = [o for o in overrides if _key(o) in {*groups, "hydra.searchpath"}]
    try:
        return hydra.compose(source.name, overrides=chosen)
    except HydraException:
        return None
