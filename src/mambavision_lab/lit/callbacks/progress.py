"""Show progress as a bar on a terminal and as one line per epoch elsewhere."""

import shutil
import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from mambavision_lab.metrics import format_metric


def progress_bar(refresh_rate: int = 1) -> ProgressBar:
    """Make a rich bar where standard output is a terminal, plain lines where it is a file or a pipe.

    Args:
        refresh_rate: Steps between two updates of the bar.
    """
    return TerminalBar(refresh_rate=refresh_rate) if sys.stdout.isatty() else EpochLines()


_INTERVAL_S = 60
_WIDE = 120  # columns, from which on all metrics fit beside the bar


class TerminalBar(RichProgressBar):
    """Lightning's bar, with epochs from one on as everywhere else.

    On a narrow terminal it shows one metric, as more would be broken over many lines.
    """

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what is shown beside the bar."""
        metrics: dict[str, Any] = dict(super().get_metrics(trainer, pl_module))
        if shutil.get_terminal_size().columns >= _WIDE:
            return metrics
        names = ("val/acc1", "val/map", "val/dice", "train/loss_step", "train/loss")
        name = next((name for name in names if name in metrics), None)
        if name is None:
            return metrics
        return {name.split("/")[1].removesuffix("_step"): metrics[name]}

    def _get_train_description(self, current_epoch: int) -> str:
        """Replace `lightning.pytorch.callbacks.RichProgressBar._get_train_description`."""
        return _epoch(self.trainer, current_epoch).ljust(len(self.validation_description))


class EpochLines(ProgressBar):
    """Print one line after each training epoch, and one a minute within a longer one or an evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self._started = 0.0
        self._told = time.perf_counter()
        self._ended: tuple[int, float] | None = None
        self._note = ""
        self._was_validated = False
        self._is_enabled = True

    def enable(self) -> None:
        """Print lines (rank 0)."""
        self._is_enabled = True

    def disable(self) -> None:
        """Print nothing (the other ranks)."""
        self._is_enabled = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the previous epoch, whose training metrics are complete only now, and start the clock."""
        self._print_epoch(trainer)
        self._was_validated = False
        self._note = " since it was resumed" if trainer.fit_loop.restarted_mid_epoch else ""
        self._started = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that this epoch has validation metrics of its own."""
        self._was_validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch and its duration."""
        self._ended = (trainer.current_epoch, time.perf_counter() - self._started)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch."""
        self._print_epoch(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell how far a long epoch is."""
        total = trainer.num_training_batches
        self._print_batches(f"epoch {trainer.current_epoch + 1}", batch_idx, total)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Tell how far a long validation is."""
        self._print_batches("validation", batch_idx, trainer.num_val_batches[dataloader_idx])

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Tell how far a long test is."""
        self._print_batches("test", batch_idx, trainer.num_test_batches[dataloader_idx])

    def _print_batches(self, what: str, batch_idx: int, total: float) -> None:
        now = time.perf_counter()
        if now - self._told < _INTERVAL_S or not self._is_enabled:
            return
        self._told = now
        print(f"{what}: batch {batch_idx + 1:,} of {total:,}", flush=True)

    def _print_epoch(self, trainer: Trainer) -> None:
        if self._ended is None or not self._is_enabled:
            return
        epoch, seconds = self._ended
        self._ended, self._told = None, time.perf_counter()
        logged = trainer.callback_metrics
        names = ["train/loss"]
        if self._was_validated:
            names += [
                "val/loss",
                "val/acc1",
                "val/dice",
                "val_raw/acc1",
                "val_raw/dice",
                "val/map",
                "val_raw/map",
                "val/num_images",
            ]
        metrics = "  ".join(
            f"{name} {format_metric(name, logged[name].item())}" for name in names if name in logged
        )
        print(f"{_epoch(trainer, epoch)}  {metrics}  {seconds:.1f} s{self._note}", flush=True)


def _epoch(trainer: Trainer, epoch: int) -> str:
    total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
    return f"epoch {epoch + 1}/{total}"
