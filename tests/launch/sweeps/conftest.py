"""Fixtures of the tests of sweeps: a task that takes no time, and the folder of the sweep that ran."""

import zipfile
from pathlib import Path

import pytest

from mambavision_lab.runs.folder import write_json


@pytest.fixture
def sweep_folder(tmp_path):
    """The one sweep that was run."""

    def find() -> Path:
        (table,) = (tmp_path / "logs" / "sweep").rglob("sweep.csv")
        return table.parent

    return find


@pytest.fixture
def task():
    """Write metrics as a training does; `seen` holds (seed, lr, folder, checkpoint) of the calls."""

    def run(cfg):
        folder = Path(cfg.paths.output_dir)
        run.seen.append((cfg.seed, cfg.optimizer.lr, folder, cfg.ckpt_path))
        if run.ends_at == len(run.seen):
            (folder / "checkpoints").mkdir()
            zipfile.ZipFile(folder / "checkpoints" / "last.ckpt", "w").close()
            raise KeyboardInterrupt
        value = (cfg.seed or 0) + cfg.optimizer.lr
        write_json({"val/acc1": value, "test/images_per_s": 5.0}, folder / "metrics.json")
        return value

    run.seen, run.ends_at = [], 0
    return run
