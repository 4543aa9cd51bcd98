"""Log the images per second of each training epoch and of each test, and the wait for data."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mambavision_lab.data.batch_loader import BatchLoader


class Throughput(Callback):
    """Log `train/images_per_s` and `test/images_per_s`, over all processes, and `train/data_wait`.

    The time is that of the epoch, with loading and without validation. The wait is the share of it from
    where the loop asks for a batch to where it has the batch on its device, augmented and normalised; on a
    GPU, to where that is queued. It is the mean over the processes, and of our loaders only.
    """

    def __init__(self) -> None:
        self._images = 0
        self._seconds = 0.0
        self._since = 0.0
        self._waited: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._restart(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the wait for the batch."""
        if isinstance(loader := trainer.train_dataloader, BatchLoader):
            waited = time.perf_counter() - loader.asked_at
            self._waited = waited + (self._waited or 0.0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self._images += len(batch[1])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock while validating."""
        self._pause(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock."""
        self._since = _now(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's rate."""
        if self._images:  # none where a run resumed after the epoch's last step
            self._log("train", trainer, pl_module)
            if self._waited is not None:
                share = self._waited / max(self._seconds, 1e-9)
                pl_module.log("train/data_wait", share, sync_dist=True)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._restart(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._images += len(batch[1])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the test's rate."""
        self._log("test", trainer, pl_module)

    def _restart(self, trainer: Trainer) -> None:
        self._images, self._waited = 0, None
        self._seconds, self._since = 0.0, _now(trainer)

    def _pause(self, trainer: Trainer) -> None:
        self._seconds += _now(trainer) - self._since

    def _log(self, split: str, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause(trainer)
        rate = self._images * trainer.world_size / max(self._seconds, 1e-9)
        pl_module.log(f"{split}/images_per_s", rate, sync_dist=True)


def _now(trainer: Trainer) -> float:
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
