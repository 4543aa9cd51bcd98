"""Show progress as a bar on a terminal and as one line per epoch elsewhere."""

import sys
import time

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from mambavision_lab.metrics import format_metric


def progress_bar(refresh_rate: int = 1) -> ProgressBar:
    """Make a rich bar where standard output is a terminal, plain lines where it is a file or a pipe.

    Args:
        refresh_rate: Steps between two updates of the bar.
    """
    return RichProgressBar(refresh_rate=refresh_rate) if sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """Print one line after each training epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._started = 0.0
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

    def _print_epoch(self, trainer: Trainer) -> None:
        if self._ended is None or not self._is_enabled:
            return
        epoch, seconds = self._ended
        self._ended = None
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
        total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else "?"
        print(f"epoch {epoch + 1}/{total}  {metrics}  {seconds:.1f} s{self._note}", flush=True)
