"""End a training on a signal with its step finished and saved."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mambavision_lab.files import LAST_CHECKPOINT
from mambavision_lab.launch.distributed.signals import Stopped, StopRequest
from mambavision_lab.lit.callbacks.newest_checkpoint import NewestCheckpoint
from mambavision_lab.runs.folder import short_path


class Preemption(Callback):
    """Stop a training on SIGTERM, SIGUSR1 or Ctrl-C after its step, with a checkpoint of that step.

    A step is never cut: what it accumulates is finished, and a validation that has begun as well. Several
    processes all stop at the same step, one after that in which the signal came: they agree on it without
    waiting for each other or for their devices. In a SLURM job SIGUSR1 has Lightning save a checkpoint and
    requeue the job, likewise at a step's end.
    """

    def __init__(self) -> None:
        self._request = StopRequest()
        self._group: Any = None
        self._vote: tuple[Tensor, Any] | None = None
        self._step = 0
        self._is_saved = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note signals from here on."""
        self._step = trainer.global_step
        if trainer.world_size > 1 and dist.is_initialized():
            self._group = dist.new_group(backend="gloo")  # on processors: no device is waited for
        self._request.install()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after the step in which a signal came; an epoch's last step is saved at its end."""
        has_stepped, self._step = trainer.global_step != self._step, trainer.global_step
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not has_stepped or not self._agree() or is_last or self._request.forward():
            return
        for newest in _newest_of(trainer):
            newest.save(trainer)
        self._is_saved = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop now that the metrics of the step are in the loggers' files."""
        if self._is_saved:
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch, which was saved at its end; a requeue waits for the next step."""
        if self._agree(at_once=True) and not self._request.is_requeue:
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the final test, or leave the signals to what was there before."""
        if self._agree(at_once=True) and not self._request.forward():
            self._stop(trainer)
        self._request.restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the signals to what was there before."""
        self._request.restore()

    def _agree(self, *, at_once: bool = False) -> int:
        """Return the signal that one of the processes noted before its last step, or now; 0 for none."""
        if self._group is None:
            return self._request.number
        decided = self._count_vote()
        if not decided:
            number = torch.tensor([self._request.number])
            work = dist.all_reduce(number, dist.ReduceOp.MAX, self._group, async_op=True)
            self._vote = number, work
            decided = self._count_vote() if at_once else 0
        self._request.number = decided or self._request.number
        return decided

    def _count_vote(self) -> int:
        if self._vote is None:
            return 0
        number, work = self._vote
        work.wait()
        self._vote = None
        return int(number)

    def _stop(self, trainer: Trainer) -> None:
        self._request.restore()
        for newest in _newest_of(trainer):
            newest.commit(trainer)
            if trainer.is_global_zero:
                folder = shlex.quote(short_path(Path(trainer.default_root_dir)))
                is_saved = (newest.dirpath / Path(LAST_CHECKPOINT).name).is_file()
                what = (
                    f"step {trainer.global_step} is saved" if is_saved else "no step is saved yet"
                )
                print(f"{what}; continue: python train.py resume={folder}", flush=True)
        raise Stopped(self._request.number)


def _newest_of(trainer: Trainer) -> Iterator[NewestCheckpoint]:
    return (c for c in trainer.checkpoint_callbacks if isinstance(c, NewestCheckpoint))
