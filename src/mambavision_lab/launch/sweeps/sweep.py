"""Run the jobs of a sweep, record each, and resume after an interruption.

The sweep's folder holds `sweep.json` (the command), one numbered folder per job with `job.json` (its
record, written by the process that runs it), and `sweep.csv`, which is rewritten from the records
whenever a job starts or ends, so that a crash loses nothing.
"""

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mambavision_lab.config.compose import check_folder_name
from mambavision_lab.config.overrides import key_of, quoted
from mambavision_lab.config.renames import OPTIONS
from mambavision_lab.config.schema import task_of
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import write_atomically
from mambavision_lab.launch.distributed.signals import Stopped
from mambavision_lab.launch.sweeps.grid import GridSearch
from mambavision_lab.launch.sweeps.jobs import (
    RECORD,
    STOPPED_EARLY,
    TABLE,
    read_records,
    write_table,
)
from mambavision_lab.launch.sweeps.search import Job, Search
from mambavision_lab.metrics import is_lower_better
from mambavision_lab.runs.folder import SWEEP, find_newest_checkpoint, holds_run, write_json

_RESUME = "sweep.resume"
# A resumed sweep may have more trials, and another number of jobs side by side.
_CHANGEABLE = (
    _RESUME,
    "sweep.devices_per_job",
    "sweep.search.n_trials",
    "sweep.search.num_parallel",
)


@dataclass
class Sweep:
    """A sweep that is ready to run.

    Attributes:
        search: Its strategy.
        parsed: The command's overrides.
        folder: Its folder.
        task: Name of the entry point that runs each job, such as "train".
        metric: Name of the metric that compares the jobs, or None for the value that a task returns.
        runs_one_by_one: Whether the launcher runs one job at a time, in this process.
    """

    search: Search
    parsed: list[Override]
    folder: Path
    task: str
    metric: str | None
    runs_one_by_one: bool


def open_sweep(config: DictConfig, loader: ConfigLoader) -> Sweep:
    """Make a sweep's folder, or find the one to resume, and point the config at it.

    Args:
        config: The composed config, `hydra` included.
        loader: Lists the choices of `glob(*)`.

    Raises:
        ConfigError: The folder holds something else, such as the sweep of another command.
    """
    # Some entry points have no sweep node.
    search: Search = instantiate(OmegaConf.select(config, "sweep.search")) or GridSearch()
    command, folder = _command(config), check_sweep_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(command, folder / SWEEP)
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder)
    return Sweep(
        search=search,
        parsed=OverridesParser.create(config_loader=loader).parse_overrides(command["overrides"]),
        folder=folder,
        task=command["task"],
        metric=config.get("optimized_metric"),
        runs_one_by_one=config.hydra.runtime.choices["hydra/launcher"] == "basic",
    )


def check_sweep_folder(config: DictConfig) -> Path:
    """Find the folder of a sweep, or that of the one to resume.

    Raises:
        ConfigError: It holds something else, such as the sweep of another command.
    """
    resume = OmegaConf.select(config, _RESUME)
    given = f"{_RESUME}={resume}" if resume else f"hydra.sweep.dir={config.hydra.sweep.dir}"
    folder = Path(resume).resolve() if resume else Path(config.hydra.sweep.dir).absolute()
    check_folder_name(folder)
    if (folder / SWEEP).is_file():
        _check_same(_command(config), folder, given)
    elif resume:
        raise ConfigError(
            f"{given}: no sweep there; give a folder such as logs/sweep/NAME/DATE_TIME, with "
            f"{SWEEP} in it"
        )
    elif holds_run(folder):
        raise ConfigError(f"{given}: holds a run; give another folder")
    return folder


def run_sweep(sweep: Sweep, launcher: Launcher) -> list[Any]:
    """Run all jobs that are not done, then show the table; exit with status 1 if a job failed."""
    records = read_records(sweep.folder)
    results: list[Any] = []
    minimize = is_lower_better(sweep.metric)
    for batch in sweep.search.batches(sweep.parsed, sweep.folder, records, minimize=minimize):
        overrides = [_prepare(job, sweep.folder, records.get(job.number)) for job in batch]
        write_table(sweep.folder)
        numbers = [job.number for job in batch]
        if sweep.runs_one_by_one:
            for number, job in zip(numbers, overrides, strict=True):
                results += launcher.launch([job], initial_job_idx=number)
        elif batch:
            try:
                results += launcher.launch(overrides, initial_job_idx=numbers[0])
            except Stopped:
                _cancel_local_jobs()
                raise
        records.update(read_records(sweep.folder))
    from mambavision_lab.launch.sweeps.summary import show_summary  # takes long to import

    write_table(sweep.folder)
    num_failed = show_summary(sweep.folder, sweep.task, sweep.metric)
    if num_failed:
        print(
            f"error: {num_failed} of {len(records)} jobs failed; see {sweep.folder / TABLE}",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)
    return results


def _prepare(job: Job, folder: Path, record: dict[str, Any] | None) -> list[str]:
    """Write what a job finds in its folder; returns the overrides that start or resume it."""
    own = folder / str(job.number)
    own.mkdir(exist_ok=True)
    seconds = (record or {}).get("seconds", 0.0)
    waiting = {"job": job.number, "overrides": job.overrides, "status": "waiting"}
    write_json(waiting | {"seconds": seconds}, own / RECORD)
    (own / STOPPED_EARLY).unlink(missing_ok=True)
    for name, text in job.files.items():
        write_atomically(own / name, text)
    # The folder is given here because Hydra would derive another for a job with another model.
    overrides = [
        *job.overrides,
        f"hydra.sweep.dir={quoted(folder)}",
        f"hydra.sweep.subdir='{job.number}'",
    ]
    checkpoint = find_newest_checkpoint(own)
    return [*overrides, f"ckpt_path={quoted(checkpoint)}"] if checkpoint else overrides


def _cancel_local_jobs() -> None:
    """End the jobs that submitit has started on this machine, or they would outlive the sweep."""
    submitit = sys.modules.get("submitit")
    if submitit is not None:
        for found in gc.get_objects():  # the launcher does not hand them out
            if isinstance(found, submitit.LocalJob):
                found.cancel()


def _command(config: DictConfig) -> dict[str, Any]:
    """Return what makes a sweep the same one when it is started again."""
    hydra = config.hydra
    given = cast(list[str], OmegaConf.to_container(hydra.overrides.task))  # with interpolations
    sources = {source.provider: source.path for source in hydra.runtime.config_sources}
    return {
        "task": task_of(config) or hydra.job.name,
        "overrides": _without_resume(given),
        "from_run": str(Path(sources["main"]).parent)
        if hydra.job.config_name == "snapshot"
        else None,
        "config_name": hydra.job.config_name,
    }


def _check_same(command: dict[str, Any], folder: Path, given: str) -> None:
    before = json.loads((folder / SWEEP).read_text())
    overrides = [_current(override) for override in before["overrides"]]
    # Earlier versions recorded less.
    others = (
        before.get(key, command[key]) == command[key] for key in command if key != "overrides"
    )
    if not all(others) or _fixed(overrides) != _fixed(command["overrides"]):
        run = before.get("from_run")
        shown = [f"from_run={run}", *overrides] if run else overrides
        raise ConfigError(
            f"{given}: that sweep is of another command: {before['task']}.py -m {' '.join(shown)}; "
            f"give the same overrides with {_RESUME}, or start a new sweep in another folder"
        )


def _current(override: str) -> str:
    """Return an override with today's name of its option."""
    key = key_of(override)
    return override.replace(key, OPTIONS.get(key, key), 1)


def _fixed(overrides: list[str]) -> list[str]:
    """List the overrides that must be the same when a sweep is resumed."""
    return sorted(o for o in overrides if key_of(o) not in _CHANGEABLE)


def _without_resume(overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if key_of(o) != _RESUME]
