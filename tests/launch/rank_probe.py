"""Callbacks for the tests: each rank writes down its values, or is interrupted at a step."""

import json
import os
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback


class RankProbe(Callback):
    """Write learning rate, initial weights and seed of each rank into a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def setup(self, trainer, pl_module, stage):
        if stage == "fit":  # before the processes exchange anything
            weights = [float(p.detach().double().sum()) for p in pl_module.parameters()]
            self.initial_weights = repr(weights)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        path = Path(self.folder) / f"rank{trainer.global_rank}.seed"
        path.write_text(str(torch.initial_seed()))

    def on_train_start(self, trainer, pl_module):
        values = {
            "lr": trainer.optimizers[0].defaults["lr"],
            "initial_weights": self.initial_weights,
            "hyper_parameters": repr(dict(pl_module.hparams)),
        }
        path = Path(self.folder) / f"rank{trainer.global_rank}.json"
        path.write_text(json.dumps(values, sort_keys=True))


class KillOnce(Callback):
    """Kill one process before a step of the run, the first time only."""

    def __init__(self, step: int, rank: int, folder: str) -> None:
        self.step, self.rank, self.folder = step, rank, folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        mark = Path(self.folder) / "killed"
        is_here = (trainer.global_step, trainer.global_rank) == (self.step, self.rank)
        if is_here and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class RequeueOnce(Callback):
    """Send every rank SLURM's requeue signal before a step, at the same place in the training loop."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step and "SLURM_RESTART_COUNT" not in os.environ:
            os.kill(os.getpid(), signal.SIGUSR1)
