"""Record each job of a sweep in its folder, and make the table `sweep.csv` of the records."""

import csv
import io
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.schema import task_of
from mambavision_lab.errors import ConfigError, ReportedError, RunError, error_text, reason
from mambavision_lab.files import write_atomically
from mambavision_lab.launch.distributed.worker import hydra_values
from mambavision_lab.launch.sweeps.device_lock import take_devices
from mambavision_lab.runs.folder import find_newest_checkpoint, write_json

RECORD = "job.json"
STOPPED_EARLY = "pruned"  # empty file that a job leaves in its folder when it ends as a bad trial
TABLE = "sweep.csv"


class JobFailedError(RuntimeError):
    """A job of a sweep failed and has printed why; the sweep continues."""


def is_sweep_job(folder: Path) -> bool:
    """Return whether a run folder is that of a sweep's job."""
    return (folder / RECORD).is_file()


def run_recorded(task: Callable[[DictConfig], Any], cfg: DictConfig, folder: Path) -> Any:
    """Run a task as the job of a sweep, and record its status, seconds and value in its folder.

    A training that submitit starts again, because it was preempted, resumes.
    """
    record = json.loads((folder / RECORD).read_text())
    if record["status"] == "running" and task_of(cfg) == "train" and cfg.ckpt_path is None:
        newest = find_newest_checkpoint(folder)
        cfg.ckpt_path = None if newest is None else str(newest)
    spent_before = record.get("seconds", 0.0)
    start = time.perf_counter()

    def store(status: str, **more: Any) -> None:
        seconds = round(spent_before + time.perf_counter() - start, 3)
        write_json(record | more | {"status": status, "seconds": seconds}, folder / RECORD)
        write_table(folder.parent)

    # Plain values can be sent to worker processes; the classes of launcher plugins cannot.
    HydraConfig.instance().cfg = OmegaConf.create(hydra_values())  # type: ignore[assignment]
    record.pop("reason", None)
    store("running")
    num_devices = OmegaConf.select(cfg, "sweep.devices_per_job")
    try:
        if num_devices is not None:
            take_devices(num_devices)
        value = task(cfg)
    except (ConfigError, RunError) as error:
        why = reason(error, max_length=None)
        print(f"error: job {record['job']}: {why}", file=sys.stderr, flush=True)
        store("failed", reason=why)
        raise
    except SystemExit as stop:
        if stop.code not in (1, 2):  # a signal ends the sweep
            store("interrupted")
            raise
        ended = f"ended with status {stop.code}"
        store("failed", reason=stop.reason if isinstance(stop, ReportedError) else ended)
        raise JobFailedError(f"job {record['job']} failed") from stop
    except Exception as error:
        print(f"job {record['job']} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        store("failed", reason=error_text(error))
        raise
    except BaseException:
        store("interrupted")
        raise
    store("pruned" if (folder / STOPPED_EARLY).exists() else "done", value=value)
    return value


def read_records(folder: Path) -> dict[int, dict[str, Any]]:
    """Read the records of all jobs of a sweep, by number, with each job's folder and metrics."""
    records = {}
    for path in folder.glob(f"*/{RECORD}"):
        record = json.loads(path.read_text())
        metrics = path.with_name("metrics.json")
        record["metrics"] = json.loads(metrics.read_text()) if metrics.is_file() else {}
        record["folder"] = str(path.parent)
        records[record["job"]] = record
    return dict(sorted(records.items()))


def write_table(folder: Path) -> None:
    """Write `sweep.csv` from the records, one row per job."""
    written = None
    while (table := _table(folder)) != written:  # again if another job ended meanwhile
        write_atomically(folder / TABLE, table)
        written = table


def _table(folder: Path) -> str:
    records = read_records(folder).values()
    names = sorted({name for record in records for name in record["metrics"]})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["job", "overrides", "status", "seconds", *names, "folder", "reason"])
    for record in records:
        writer.writerow(
            [
                record["job"],
                " ".join(record["overrides"]),
                record["status"],
                record["seconds"],
                *(record["metrics"].get(name, "") for name in names),
                record["folder"],
                record.get("reason", ""),
            ]
        )
    return text.getvalue()
