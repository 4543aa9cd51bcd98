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
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mambavision_lab.config.overrides import key_of, quoted
from mambavision_lab.config.renames import OPTIONS
from mambavision_lab.config.schema import task_of
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import write_atomically
from mambavision_lab.launch.distributed.signals import Stopped
from mambavision_lab.launch.sweeps.grid import GridSearch
from mambavision_lab.launch.sweeps.jobs import PRUNED, RECORD, TABLE, read_records, write_table
from mambavision_lab.launch.sweeps.search import Job, Search
from mambavision_lab.metrics import is_lower_better
from mambavision_lab.runs.folder import find_newest_checkpoint, write_json

COMMAND = "sweep.json"
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


def open_sweep(config: DictConfig, arguments: Sequence[str], loader: ConfigLoader) -> Sweep:
    """Make a sweep's folder, or find the one to resume, and point the config at it.

    Args:
        config: The composed config, `hydra` included.
        arguments: The command's overrides.
        loader: Lists the choices of `glob(*)`.

    Raises:
        ConfigError: The folder to resume holds no sweep, or that of another command.
    """
    # Some entry points have no sweep node.
    search: Search = instantiate(OmegaConf.select(config, "sweep.search")) or GridSearch()
    overrides, task = _without_resume(arguments), task_of(config) or config.hydra.job.name
    command = {
        "task": task,
        "overrides": overrides,
        "from_run": _from_run(config) if config.hydra.job.config_name == "snapshot" else None,
    }
    resume = OmegaConf.select(config, "sweep.resume")
    if resume is None:
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = Path(resume).resolve()
        _check_same(command, folder, resume)
    write_json(command, folder / COMMAND)
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder)
    return Sweep(
        search=search,
        parsed=OverridesParser.create(config_loader=loader).parse_overrides(overrides),
        folder=folder,
        task=task,
        metric=config.get("optimized_metric"),
        runs_one_by_one=config.hydra.runtime.choices["hydra/launcher"] == "basic",
    )


def check_resume(folder: str, overrides: Sequence[str], task: str) -> None:
    """Refuse to resume a folder that holds no sweep, or that of another command.

    Raises:
        ConfigError: The message is one line.
    """
    own = [o for o in _without_resume(overrides) if not o.startswith(("hydra.", "hydra/"))]
    _check_same({"task": task, "overrides": own}, Path(folder), folder)


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
    (own / PRUNED).unlink(missing_ok=True)
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


def _from_run(config: DictConfig) -> str:
    """Return the run folder whose snapshot a config was composed from."""
    sources = config.hydra.runtime.config_sources
    return str(next(Path(s.path).parent for s in sources if s.provider == "main"))


def _check_same(command: dict[str, Any], folder: Path, given: str) -> None:
    if not (folder / COMMAND).is_file():
        raise ConfigError(
            f"{_RESUME}={given}: no sweep there; give a folder such as "
            f"logs/sweep/NAME/DATE_TIME, with {COMMAND} in it"
        )
    before = json.loads((folder / COMMAND).read_text())
    overrides = [_current(override) for override in before["overrides"]]
    run = before.get("from_run")
    is_same = before["task"] == command["task"] and run == command.get("from_run", run)
    if not is_same or _fixed(overrides) != _fixed(command["overrides"]):
        shown = [f"from_run={run}", *overrides] if run else overrides
        raise ConfigError(
            f"{_RESUME}={given}: that sweep is of another command: {before['task']}.py -m "
            f"{' '.join(shown)}; give the same overrides, or start a new sweep"
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
