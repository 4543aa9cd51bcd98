"""The decorator of the entry points: Hydra, with every config checked before anything starts.

Exit status: 0 done, 2 what was asked for cannot be run (one line, no traceback), 1 the run failed
(with its traceback).
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.data.class_folders import count_classes
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder
from mambavision_lab.launch import schema
from mambavision_lab.launch.check import check_config, suggest
from mambavision_lab.launch.messages import one_line
from mambavision_lab.launch.snapshot import find_snapshot

Task = Callable[[DictConfig], Any]


def hydra_app(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a task the main function of a script that is configured by `configs/<config_name>.yaml`."""

    def decorate(task: Task) -> Callable[[], None]:
        @wraps(task)
        def main() -> None:
            try:
                run(task, config_name)
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
    os.environ.setdefault("MAMBAVISION_ROOT", str(Path(task.__code__.co_filename).resolve().parent))
    prepare()
    sys.argv[1:] = [_without_links(argument) for argument in sys.argv[1:]]
    arguments = get_args_parser().parse_args()
    wants_run = (
        not any((arguments.help, arguments.hydra_help, arguments.cfg, arguments.info))
        and not arguments.shell_completion
    )
    if config_name == "eval":
        _use_snapshot(arguments.overrides, wants_run)
    if wants_run:
        for overrides in _jobs(arguments.overrides, bool(arguments.multirun)):
            check_job(config_name, overrides)

    @wraps(task)
    def job(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except ConfigError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # the sweep goes on and reports at its end
            refuse(error)
        finally:
            wandb = sys.modules.get("wandb")
            if wandb is not None and wandb.run is not None:
                wandb.finish()  # or the next job of a sweep would go on writing into this run

    # Let exceptions through; Hydra would otherwise shorten tracebacks and choose the exit status.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(configs_folder()), config_name=config_name)(
            job
        )()
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from error
        if wants_run:
            raise
        raise ConfigError(one_line(error, None)) from error


def prepare() -> None:
    """Register what the configs refer to: schemas and resolvers."""
    schema.register()
    OmegaConf.register_new_resolver("count_classes", count_classes, replace=True)
    # The last part of a choice such as nvidia/mambavision_t, for names of folders.
    OmegaConf.register_new_resolver(
        "leaf", lambda choice: str(choice).rpartition("/")[2], replace=True
    )


def _without_links(argument: str) -> str:
    """Name the real file in ckpt_path=...: logs/latest will point elsewhere before it is read."""
    key, _, value = argument.partition("=")
    is_file = key == "ckpt_path" and Path(value).is_file()
    return f"{key}={Path(value).resolve()}" if is_file else argument


def check_job(config_name: str, overrides: list[str]) -> None:
    """Compose one job's config and check it.

    Raises:
        ConfigError: It cannot be composed or does not fit; the message is one line.
    """
    for override in overrides:
        group, _, choice = override.partition("=")
        if choice == "null" and group != "experiment" and (configs_folder() / group).is_dir():
            choices = [path.stem for path in (configs_folder() / group).glob("*.yaml")]
            raise ConfigError(f"{override}: no such choice; {suggest('null', choices)}")
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(configs_folder())):
        try:
            cfg = hydra.compose(config_name, overrides=overrides, return_hydra_config=True)
            with open_dict(cfg):
                cfg.hydra.runtime.output_dir = "checked-before-it-exists"
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                del cfg["hydra"]
            known = [field.name for field in fields(schema.SCHEMAS[config_name])]
            if unknown := [str(key) for key in cfg if key not in known]:  # given with a +
                raise ConfigError(f"{unknown[0]}: no such option; {suggest(unknown[0], known)}")
            check_config(cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error, _without_values(config_name, overrides))) from error


def _jobs(overrides: list[str], is_multirun: bool) -> Iterator[list[str]]:
    """The overrides of each job that the command stands for."""
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(configs_folder())):
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
    try:
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise ConfigError(one_line(error, None)) from error
    for batch in batches:
        yield from ([*job] for job in batch)


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
    # Among the other overrides: argparse takes them from one place only.
    sys.argv.insert(sys.argv.index(f"ckpt_path={given[-1]}"), search)


def _without_values(config_name: str, overrides: list[str]) -> DictConfig | None:
    """The config with the user's choices of groups but none of the single values, for suggestions."""
    groups = {path.name for path in configs_folder().iterdir() if path.is_dir()}
    chosen = [o for o in overrides if o.lstrip("+~").partition("=")[0] in groups]
    try:
        return hydra.compose(config_name, overrides=chosen)
    except HydraException:
        return None
