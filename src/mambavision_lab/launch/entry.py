"""Run a task for a command: Hydra, with every config checked before anything starts.

Exit status: 0 done, 2 what was requested cannot be run, 1 the run failed, 130 stopped by Ctrl-C, 143
stopped by SIGTERM. What `errors.explain` knows is one line, its traceback in the run's log; the rest shows
its traceback.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log, run_job
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config.compose import Composer, hydra_config, without_hydra
from mambavision_lab.config.help import print_help
from mambavision_lab.config.messages import one_line
from mambavision_lab.config.resolvers import register
from mambavision_lab.errors import ConfigError, RunError, explain, refuse
from mambavision_lab.launch.check_command import (
    check_job,
    check_jobs,
    show_check,
)
from mambavision_lab.launch.command_line import Command, read_command
from mambavision_lab.launch.distributed.environment import find_launch
from mambavision_lab.launch.distributed.external import join
from mambavision_lab.launch.distributed.signals import stopping_on_signals
from mambavision_lab.launch.prepared import Prepared, open_command
from mambavision_lab.launch.resume import resolve_resume
from mambavision_lab.launch.sweeps.jobs import is_sweep_job, run_recorded
from mambavision_lab.runs.provenance import list_changes

Task = Callable[[DictConfig], Any]

log = logging.getLogger(__name__)


def run_command_line(
    task: Task, name: str, root: Path | None = None, *, on_check: Task | None = None
) -> None:
    """Run a task as a command: parse the command line, check it, and run the task for it.

    Args:
        task: A function of the composed config.
        name: Its root config in `configs/`.
        root: Folder below which logs and data go, unless the environment says otherwise; None is
            the working folder.
        on_check: What check=true does beside checking the configs, with the config of each job.
    """
    os.environ.setdefault("MAMBAVISION_ROOT", str(root or Path.cwd()))
    logging.raiseExceptions = False  # a log that cannot be written, as on a full disk, is no news
    with stopping_on_signals():
        try:
            command = read_command(name)
            launch = find_launch()
            if launch is None:
                run(command, task, on_check)
            else:
                join(command, lambda given: run(given, task, on_check), task, launch)
        except Exception as error:
            known = explain(error)
            if known is None:
                raise
            refuse(known)


def run(command: Command, task: Task, on_check: Task | None = None) -> None:
    """Check a command, then run its task, once or for each job of a sweep.

    Raises:
        ConfigError: The command cannot be run; the message is one line.
    """
    if command.flags.help:
        print_help(command.task)
        return
    if command.flags.cfg and command.is_multirun:
        raise ConfigError("--cfg shows the config of one job; give check=true for those of a sweep")
    prepared = open_command(command if command.shows_only else resolve_resume(command))
    command = prepared.command
    if prepared.snapshot is not None:
        for line in list_changes(prepared.snapshot):
            print(f"warning: {line}", file=sys.stderr, flush=True)
    if command.shows_only:
        _show(prepared)
        return
    jobs, first = check_jobs(prepared)
    if command.check:
        if on_check is not None:
            for job in jobs:
                cfg = check_job(prepared, job)
                with hydra_config(cfg):
                    on_check(without_hydra(cfg))
        show_check(jobs, first, command.is_multirun)
        return
    try:
        if command.is_multirun:
            _sweep(prepared.composer, prepared.sweep, _as_job(task))
        else:
            _run_single(prepared.composer, first, _as_job(task))
    except HydraException as error:  # around what a constructor refuses
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from error
        raise


def _run_single(composer: Composer, cfg: DictConfig, job: Task) -> Any:
    """Run a job with the config that was composed for its check; returns its value."""
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    context = HydraContext(config_loader=composer.loader, callbacks=Callbacks(cfg))
    context.callbacks.on_run_start(config=cfg, config_name=composer.source.name)
    done = run_job(job, cfg, "hydra.run.dir", None, context)
    context.callbacks.on_run_end(config=cfg, config_name=composer.source.name, job_return=done)
    return done.return_value  # raises what the job raised


def _sweep(composer: Composer, cfg: DictConfig, job: Task) -> None:
    """Run the jobs of a sweep, whose own config was composed for its check."""
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    context = HydraContext(config_loader=composer.loader, callbacks=Callbacks(cfg))
    context.callbacks.on_multirun_start(config=cfg, config_name=composer.source.name)
    sweeper = Plugins.instance().instantiate_sweeper(
        hydra_context=context, task_function=job, config=cfg
    )
    with hydra_config(cfg), read_write(cfg.hydra):  # the sweep fills in its folder
        given: Any = OmegaConf.to_container(cfg.hydra.overrides.task)  # with interpolations
        sweeper.sweep(arguments=given)
    context.callbacks.on_multirun_end(config=cfg, config_name=composer.source.name)


def _as_job(task: Task) -> Task:
    """Wrap a task for Hydra, which runs it here or in a process that a launcher started."""

    @wraps(task)
    def job(cfg: DictConfig) -> Any:
        register()
        folder = Path(HydraConfig.get().runtime.output_dir)
        explained = _in_one_line(task)
        try:
            if is_sweep_job(folder):
                return run_recorded(explained, cfg, folder)
            return explained(cfg)
        except (ConfigError, RunError) as error:
            if is_sweep_job(folder):
                raise  # the sweep continues and reports at its end
            refuse(error)
        finally:
            wandb = sys.modules.get("wandb")
            if wandb is not None and wandb.run is not None:
                wandb.finish()  # or the next job of a sweep would write into this run

    return job


def _in_one_line(task: Task) -> Task:
    """Let a task raise what is known of its errors as one line; their tracebacks go to the run's log."""

    def call(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except Exception as error:
            known = explain(error)
            if known is None:
                raise
            log.info("the run failed", exc_info=error)
            if known is error:
                raise
            raise known from error

    return call


def _show(prepared: Prepared) -> None:
    """Print what a flag of Hydra's requests: a config, information, help or completions."""
    flags, hydra = prepared.command.flags, prepared.composer.hydra
    name, overrides = prepared.composer.source.name, prepared.overrides
    try:
        if flags.hydra_help:
            hydra.hydra_help(config_name=name, args_parser=get_args_parser(), args=flags)
        elif flags.cfg:
            hydra.show_cfg(name, overrides, flags.cfg, flags.package, flags.resolve)
        elif flags.info:
            hydra.show_info(flags.info, config_name=name, overrides=overrides)
        else:
            hydra.shell_completion(config_name=name, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line(error, None)) from error
