"""An entry point for the tests: every process of a run does what `name` says, without a network."""

import os
import signal
import sys
import time
import zipfile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.distributed.run import run_together
from mambavision_lab.launch.entry import run_command_line
from mambavision_lab.runs.folder import write_json


def run(cfg: DictConfig) -> float | None:
    return run_together(act, cfg, prepare=lambda: None)


def act(cfg: DictConfig) -> float | None:
    rank, world_size, restart = (
        int(os.environ.get(torch_name, os.environ.get(slurm_name, default)))
        for torch_name, slurm_name, default in (
            ("RANK", "SLURM_PROCID", "0"),
            ("WORLD_SIZE", "SLURM_NTASKS", "1"),
            ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT", "0"),
        )
    )
    folder = Path(cfg.paths.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "config": OmegaConf.to_container(cfg, resolve=True),
        "argv": sys.argv,
        "pids": [os.getpid(), os.getppid()],
        "ckpt_path": cfg.ckpt_path,
    }
    write_json(record, folder / f"rank{rank}-{restart}.json")
    # Where one ends the run before another has come this far, the other would leave no record.
    while len([*folder.glob(f"rank*-{restart}.json")]) < world_size:
        time.sleep(0.02)
    if cfg.name == "refused":
        raise ConfigError("name=refused: by every process")
    if cfg.name == "raises" and rank == 1:
        raise ZeroDivisionError("on rank 1 alone")
    if cfg.name == "lost" and rank == world_size - 1 and restart == 0:
        (folder / "checkpoints").mkdir()
        zipfile.ZipFile(folder / "checkpoints" / "last.ckpt", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.name == "waits" or (cfg.name in ("raises", "lost") and restart == 0):
        time.sleep(600)  # for the other process, or for a signal
    return 0.25 if rank == 0 else 0.75


if __name__ == "__main__":
    run_command_line(run, "train", Path(os.environ["MAMBAVISION_ROOT"]))
