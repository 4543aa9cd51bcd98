"""Open a run's folder: what every run leaves there, beside metrics and checkpoints."""

import json
import logging
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.compose import Composer, package_source, without_hydra
from mambavision_lab.config.schema import task_of
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    check_archive,
    write_atomically,
)
from mambavision_lab.runs.differences import find_differences, write_differences
from mambavision_lab.runs.lock import take_folder
from mambavision_lab.runs.provenance import collect
from mambavision_lab.runs.snapshot import is_complete, write_snapshot

log = logging.getLogger(__name__)

RESULTS = "metrics.json"  # the last thing that a training leaves, but for its report
SWEEP = "sweep.json"  # in a sweep's folder: its command
REQUEUE_CHECKPOINT = (
    "checkpoints/requeue.ckpt"  # saved within an epoch, before SLURM requeued the job
)


def open_run_folder(cfg: DictConfig, *, is_latest: bool) -> Path:
    """Write config, overrides, provenance, differences and snapshot into the run's folder; returns it.

    A run that resumes from a checkpoint of its own folder leaves what it wrote there at first.

    Args:
        cfg: The composed config.
        is_latest: Whether `latest` in the log folder should point at this run.
    """
    folder = Path(cfg.paths.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if task_of(cfg) == "train":
        take_folder(folder)
    if is_resuming(cfg) and is_complete(folder):
        for name in (RESULTS, "outcome.json"):  # it has not ended any more
            (folder / name).unlink(missing_ok=True)
        return folder
    hydra: Any = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)  # with interpolations
    write_atomically(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    write_atomically(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
    runtime: Any = OmegaConf.to_container(hydra.runtime)  # as typed, likewise
    write_json(collect(cfg.get("seed"), runtime.get("command")), folder / "provenance.json")
    write_snapshot(cfg, folder)
    if task_of(cfg) == "train":
        _write_differences(cfg, overrides, folder)
    if is_latest:
        _point_latest(Path(cfg.paths.log_dir), folder)
    return folder


def check_unused(cfg: DictConfig) -> None:
    """Refuse a run folder that holds another run or a sweep, unless a training resumes there.

    Raises:
        ConfigError: It does; the message says what to do.
    """
    folder, task = Path(cfg.paths.output_dir), task_of(cfg)
    if cfg.get("overwrite") or (task == "train" and is_resuming(cfg)):
        return
    if (folder / SWEEP).is_file():
        raise ConfigError(f"hydra.run.dir={folder}: holds a sweep; give another folder")
    if not holds_run(folder):
        return
    can_resume = task == "train" and is_complete(folder)
    resume = f", or resume the run with resume={folder}" if can_resume else ""
    raise ConfigError(f"hydra.run.dir={folder}: holds a run; give another folder{resume}")


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds what `open_run_folder` writes."""
    return any((folder / name).exists() for name in ("config.yaml", "snapshot"))


def has_ended(folder: Path) -> bool:
    """Return whether the run of a folder has come to its results."""
    return (folder / RESULTS).is_file()


def is_resuming(cfg: DictConfig) -> bool:
    """Return whether a run starts from a checkpoint of its own folder: it was interrupted before."""
    checkpoint, folder = cfg.get("ckpt_path"), Path(cfg.paths.output_dir).resolve()
    return checkpoint is not None and Path(checkpoint).resolve().is_relative_to(folder)


def starts_from_weights(cfg: DictConfig) -> bool:
    """Return whether a run takes the weights of its checkpoint alone; one of its own it resumes exactly."""
    return cfg.resume == "weights" and not is_resuming(cfg)


def find_newest_checkpoint(run_folder: Path) -> Path | None:
    """Find the newest good checkpoint to resume a run from; damaged ones are named, a line each.

    The last one, a newer one from before a requeue, or those before it; behind them the best one.
    """
    last = run_folder / LAST_CHECKPOINT
    paths = [last, *last.parent.glob("last-*.ckpt"), run_folder / REQUEUE_CHECKPOINT]
    paths = sorted(filter(Path.is_file, paths), key=lambda path: -path.stat().st_mtime)
    paths += [path for path in [run_folder / BEST_CHECKPOINT] if path.is_file()]
    for number, path in enumerate(paths):
        if damage := check_archive(path):
            print(f"{path}: is damaged ({damage}); looking for an earlier one", file=sys.stderr)
        elif path.name != Path(BEST_CHECKPOINT).name or (number and _has_optimizer(path)):
            return path
    return None


def adopt_requeue_checkpoints(run_folder: Path) -> None:
    """Move what Lightning saved before a SLURM requeue to the run's other checkpoints.

    Where Lightning finds `hpc_ckpt_N.ckpt` in the run folder, it evaluates those weights at the end of a run
    that keeps no checkpoints.
    """
    saved = run_folder.glob("hpc_ckpt_*.ckpt")
    for path in sorted(saved, key=lambda path: path.stat().st_mtime):
        adopted = run_folder / REQUEUE_CHECKPOINT
        adopted.parent.mkdir(exist_ok=True)
        path.replace(adopted)


def _has_optimizer(checkpoint: Path) -> bool:
    """Return whether a checkpoint holds more than weights, without torch."""
    with zipfile.ZipFile(checkpoint) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return b"optimizer_states" in archive.read(pickled)


def write_json(content: Any, path: Path) -> None:
    """Write plain values as indented JSON; the file is whole or not there."""
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def short_path(path: Path) -> str:
    """Return a path relative to the working folder where it lies in it; that folder itself is whole."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if folder in path.parents else path)


def _write_differences(cfg: DictConfig, overrides: list[str], folder: Path) -> None:
    """Store what differs from a bare `train.py`, before interpolation, for the report."""
    defaults = without_hydra(Composer(package_source("train"), "train").compose([]))
    before, here = (cast(dict[str, Any], OmegaConf.to_container(c)) for c in (defaults, cfg))
    write_differences(find_differences(before, here, overrides), folder)


def _point_latest(log_dir: Path, folder: Path) -> None:
    """Let log_dir/latest point at a folder; replaced in one step, and never a real folder."""
    link = log_dir / "latest"
    if link.exists() and not link.is_symlink():
        return
    try:
        log_dir.mkdir(parents=True, exist_ok=True)  # the run may lie elsewhere
        with tempfile.TemporaryDirectory(dir=log_dir, prefix=".latest-") as unfinished:
            fresh = Path(unfinished) / "latest"
            fresh.symlink_to(os.path.relpath(folder, log_dir), target_is_directory=True)
            fresh.replace(link)
    except (OSError, ValueError) as error:  # Windows asks for a right, and one drive for both
        log.warning("%s does not point at this run: %s", link, error)
