"""Run the jobs of a sweep, keep what came of each, and go on after a break.

The sweep's folder holds `sweep.json` (the command), one numbered folder per job with `job.json`
(what is known of it, written by the process that runs it), and `sweep.csv`, made anew from these
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
from omegaconf import DictConfig, open_dict, read_write

from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.distributed.signals import Stopped
from mambavision_lab.launch.sweeps.grid import GridSearch
from mambavision_lab.launch.sweeps.jobs import RECORD, read_records, write_table
from mambavision_lab.launch.sweeps.search import Job, Search
from mambavision_lab.runs.folder import write_json
from mambavision_lab.runs.snapshot import find_snapshot

COMMAND = "sweep.json"
_RESUME = "sweep.resume"
# A resumed sweep may have more trials, and another number of them side by side.
_FREE = (_RESUME, "sweep.n_trials", "sweep.num_parallel", "sweep.devices_per_job")
_BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@dataclass
class Sweep:
    """A sweep that can be run: what it tries, for which command, in which folder."""

    search: Search
    parsed: list[Override]
    folder: Path
    task: str
    metric: str | None
    launches_one_by_one: bool


def open_sweep(config: DictConfig, arguments: Sequence[str], loader: ConfigLoader) -> Sweep:
    """Make or find the folder of a sweep, and point the config at it.

    Args:
        config: The composed config, `hydra` included.
        arguments: The command's overrides.
        loader: Knows the choices of `glob(*)`.

    Raises:
        ConfigError: The folder to resume holds no sweep, or that of another command.
    """
    # Configs without a sweep node have no other search than the grid.
    search: Search = instantiate(config.get("sweep")) or GridSearch()
    metric = config.get("optimized_metric")
    if hasattr(search, "is_minimized"):
        search.is_minimized = is_lower_better(metric)
    kept = [a for a in arguments if a.partition("=")[0].lstrip("+") != _RESUME]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(kept)
    if search.resume is None:
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = Path(search.resume).resolve()
    command = {"task": config.hydra.job.name, "overrides": kept}
    if config.hydra.job.config_name == "snapshot":
        command["from_run"] = from_run_of(config)
    if search.resume is not None:
        _check_same(command, folder, search.resume)
    write_json(command, folder / COMMAND)
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder)
    one_by_one = config.hydra.launcher._target_ == _BASIC
    return Sweep(search, parsed, folder, config.hydra.job.name, metric, one_by_one)


def check_resume(folder: str, overrides: Sequence[str], task: str) -> None:
    """Refuse a folder that holds no sweep, or one of another command, before anything starts."""
    kept = [o for o in overrides if o.partition("=")[0].lstrip("+") != _RESUME]
    kept = [o for o in kept if not o.startswith(("hydra.", "hydra/"))]
    _check_same({"task": task, "overrides": kept}, Path(folder), folder)


def from_run_of(config: DictConfig) -> str:
    """Run folder whose snapshot a config was composed from."""
    sources = [s.path for s in config.hydra.runtime.config_sources if s.provider == "main"]
    return str(find_snapshot(sources[0], "from_run").parent)


def run_sweep(sweep: Sweep, launcher: Launcher) -> list[Any]:
    """Run all jobs that are not done, then show the table; a failed job ends in exit status 1."""
    records = read_records(sweep.folder)
    results: list[Any] = []
    for batch in sweep.search.batches(sweep.parsed, sweep.folder, records):
        overrides = [_prepared(job, sweep, records.get(job.number)) for job in batch]
        write_table(sweep.folder)
        numbers = [job.number for job in batch]
        if sweep.launches_one_by_one:
            for number, job in zip(numbers, overrides, strict=True):
                results += launcher.launch([job], initial_job_idx=number)
        elif batch:
            try:
                results += launcher.launch(overrides, initial_job_idx=numbers[0])
            except Stopped:
                _cancel_local_jobs()
                raise
        records.update(read_records(sweep.folder))
    from mambavision_lab.launch.sweeps.summary import report

    write_table(sweep.folder)
    num_failed = report(
        sweep.folder, sweep.task, sweep.metric, is_minimized=is_lower_better(sweep.metric)
    )
    if num_failed:
        jobs = len(records)
        print(
            f"error: {num_failed} of {jobs} jobs failed; see {sweep.folder / 'sweep.csv'}",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(1)
    return results


def _cancel_local_jobs() -> None:
    """End the jobs that submitit has started on this machine: it would let them outlive the sweep."""
    submitit = sys.modules.get("submitit")
    if submitit is not None:
        for found in gc.get_objects():  # the launcher keeps them to itself
            if isinstance(found, submitit.LocalJob):
                found.cancel()


def is_lower_better(metric: str | None) -> bool:
    """Whether a figure is one to make small."""
    return metric is not None and "loss" in metric


def _prepared(job: Job, sweep: Sweep, record: dict[str, Any] | None) -> list[str]:
    """Write the record of a job that waits; returns the overrides that start or resume it."""
    folder = sweep.folder / str(job.number)
    folder.mkdir(exist_ok=True)
    previous = record or {"seconds": 0.0}
    facts = {"job": job.number, "overrides": job.overrides, "status": "waiting"}
    write_json(previous | facts, folder / RECORD)
    prepare_job = getattr(sweep.search, "prepare_job", None)
    if prepare_job:
        prepare_job(job, sweep.folder, folder)
    # The folder is given outright: Hydra would name it anew for a job with another model.
    given = [
        *job.overrides,
        f"hydra.sweep.dir={_quoted(sweep.folder)}",
        f"hydra.sweep.subdir='{job.number}'",
    ]
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        given.append(f"ckpt_path={_quoted(last)}")
    return given


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _check_same(command: dict[str, Any], folder: Path, given: str) -> None:
    if not (folder / COMMAND).is_file():
        raise ConfigError(
            f"{_RESUME}={given}: no sweep there; wanted a folder such as "
            f"logs/sweep/NAME/DATE_TIME, with {COMMAND} in it"
        )
    before = json.loads((folder / COMMAND).read_text())
    old, new = (
        [o for o in c["overrides"] if o.partition("=")[0].lstrip("+") not in _FREE]
        for c in (before, command)
    )
    if before["task"] != command["task"] or sorted(old) != sorted(new):
        raise ConfigError(
            f"{_RESUME}={given}: that sweep is of another command: {before['task']}.py -m "
            f"{' '.join(before['overrides'])}; give the same overrides, or start a new sweep"
        )
