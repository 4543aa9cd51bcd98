"""Average the weights of a training exponentially, and validate the average beside the raw weights."""

from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mambavision_lab.data.base import Batch
from mambavision_lab.errors import ConfigError
from mambavision_lab.metrics import is_count

AVERAGED, RAW = "averaged", "raw"
KIND = "weights"  # entry of a checkpoint: which of the two its `state_dict` holds
_OTHER = "current_model_state"  # Lightning's entry for those that it does not hold


class EMA(WeightAveraging):
    """Keep an exponential moving average of the weights, for validation, checkpoints and the final test.

    The first update copies the weights. After n of them, one for each optimizer step, the next is

        average = decay[n] average + (1 - decay[n]) weights;  decay[n] = min(decay, (1 + n) / (10 + n))

    Running statistics of BatchNorm are averaged like weights, as timm does: those of the raw weights are of
    other activations than the average network has, and come from its last few batches alone. What counts
    batches is copied. The average has at least float32; with precision=bf16-true a validation rounds it, so
    that what was validated is what is stored.

    In a validation `val/acc1` and its like are the average's, `val_raw/acc1` those of the raw weights.

    Args:
        decay: Share of the average that an update keeps, once warmed up; at least 0 and below 1.
        use_warmup: Whether the first updates keep less; else decay[n] = decay.

    Raises:
        ConfigError: decay is impossible, or the strategy shards the weights.
    """

    def __init__(self, decay: float = 0.9998, *, use_warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"callbacks.ema.decay={decay}: wanted at least 0 and below 1")
        super().__init__(multi_avg_fn=self._update)
        self.decay = decay
        self.use_warmup = use_warmup

    @property
    def average(self) -> LightningModule:
        """The classifier with the average; during a validation it is the one with the raw weights."""
        assert self._average_model is not None, "there is none before a training"
        return cast(LightningModule, self._average_model.module)

    def decay_after(self, num_updates: int) -> float:
        """Return the share that the next update keeps."""
        warmup = (1 + num_updates) / (10 + num_updates)
        return min(self.decay, warmup) if self.use_warmup else self.decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the classifier."""
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise ConfigError(
                f"callbacks.ema: {type(trainer.strategy).__name__} shards the weights, which cannot be "
                "averaged so; choose trainer=ddp, or callbacks=default"
            )
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the classifier to its device, to which it was not moved before."""
        dtype = next(pl_module.parameters()).dtype
        self.average.to(pl_module.device, torch.promote_types(dtype, torch.float32)).eval()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average; in all processes with the statistics of the first, as DDP does."""
        super().on_validation_epoch_start(trainer, pl_module)
        if self._average_model is not None and trainer.world_size > 1:
            for buffer in self.average.buffers():
                dist.broadcast(buffer, 0)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Validate the raw weights on the same batch."""
        if self._average_model is not None:
            with trainer.precision_plugin.forward_context():
                self.average.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the raw weights back, and log their metrics."""
        super().on_validation_epoch_end(trainer, pl_module)
        if self._average_model is None:
            return
        metrics: Any = self.average.metrics
        for name, metric in metrics["val"].items():
            if not is_count(name):
                value = metric.compute()  # over all processes
                pl_module.log(
                    f"val_raw/{name}",
                    value,
                    prog_bar=name in ("acc1", "map", "dice"),
                    sync_dist=True,
                )
            metric.reset()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as `state_dict`, the raw weights beside it."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint[KIND] = AVERAGED

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Load both, whichever is `state_dict`."""
        super().on_load_checkpoint(trainer, pl_module, with_weights(checkpoint, AVERAGED))

    def _update(self, average: Any, weights: Any, num_updates: Any) -> None:
        """Update tensors of one device and type."""
        if not average[0].is_floating_point():
            for old, new in zip(average, weights, strict=True):
                old.copy_(new)
            return
        assert self._average_model is not None
        decay = self.decay_after(int(self._average_model.n_averaged))  # on the CPU: no waiting
        weights = [x.to(average[0].dtype) for x in weights]
        get_ema_multi_avg_fn(decay)(average, weights, num_updates)


def raw_name(metric: str) -> str:
    """Return the name that a metric of the validation has for the raw weights."""
    return f"val_raw/{metric.removeprefix('val/')}"


def with_weights(checkpoint: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a checkpoint of a training with averages that has weights of this kind as `state_dict`."""
    if _OTHER not in checkpoint or checkpoint.get(KIND, AVERAGED) == kind:
        return checkpoint
    swapped = {"state_dict": checkpoint[_OTHER], _OTHER: checkpoint["state_dict"], KIND: kind}
    return checkpoint | swapped


def kind_of_weights(checkpoint: dict[str, Any]) -> str | None:
    """Return which weights a checkpoint holds, averaged or raw; None where nothing was averaged."""
    return checkpoint.get(KIND, AVERAGED if _OTHER in checkpoint else None)
