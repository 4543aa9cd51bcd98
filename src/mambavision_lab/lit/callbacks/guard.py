"""Skip training steps that go wrong, and stop a run that keeps going wrong."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle
from torchmetrics import Metric

from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.bad_steps import FILE, BadStep, write_bad_steps
from mambavision_lab.lit.restore_point import RestorePoint, find_nonfinite, is_free_to_read

log = logging.getLogger(__name__)

ADVICE = "lower optimizer.lr, lengthen scheduler.warmup_epochs, or choose another trainer.precision"
_MAX_STEPS = 50  # between two looks at the steps on a device
_WINDOW = 100  # steps of the running mean of the loss
_WARMUP = 20  # steps before a loss can be too high


@dataclass
class _Step:
    """What is known of a step; tensors stay on its device until they are looked at."""

    step: int
    epoch: int
    learning_rate: float
    images: list[int]
    loss: Tensor
    grad_norm: Tensor
    is_bad: Tensor


class Guard(Callback):
    """Skip each step whose loss or gradient is not finite, and stop the run after too many in a row.

    A skipped step leaves weights, the optimizer's state, BatchNorm's statistics, averages of the weights
    and training metrics as they were; it counts as a step of the schedule. What is known of it is written to
    `bad_steps.csv`. Processes skip together. No checkpoint is written from weights that are not finite.

    On the CPU each step is looked at as it ends. On a GPU that would wait for each step, so steps are looked
    at together: every `trainer.log_every_n_steps`, 50 at most, before each validation and each checkpoint.
    There optimizers with fused=true skip a step without waiting; with others a max_bad_steps above 0 waits
    for each step, and a run that is to stop at the first bad step takes some more before it does.
    Gradients that overflow in float16 are the gradient scaler's to skip, and are not counted.

    `TrainingModule` brings one where a Trainer has none.

    Args:
        max_bad_steps: How many steps in a row may be skipped; one more stops the run.
        max_loss_ratio: A loss above this multiple of its running mean over 100 steps is bad as well; None
            takes any finite loss.

    Raises:
        ConfigError: A setting is impossible.
        ConfigError, FloatingPointError: There were too many bad steps in a row; the message names the last.
    """

    def __init__(self, *, max_bad_steps: int = 0, max_loss_ratio: float | None = None) -> None:
        if max_bad_steps < 0:
            raise ConfigError(f"guard.max_bad_steps={max_bad_steps}: wanted 0 or more")
        if max_loss_ratio is not None and not max_loss_ratio > 1:
            raise ConfigError(f"guard.max_loss_ratio={max_loss_ratio}: wanted more than 1, or null")
        self.max_bad_steps, self.max_loss_ratio = max_bad_steps, max_loss_ratio
        self.num_bad = 0  # in the whole run
        self._num_in_row = 0
        self._mean_loss = torch.zeros(2, dtype=torch.float64)  # and over how many steps
        self._hook: RemovableHandle | None = None
        self._restore_point: RestorePoint | None = None  # before the batches of this step
        self._buffers: list[Tensor] = []
        self._metrics: list[Metric] = []
        self._losses: list[Tensor] = []
        self._images: list[int] = []
        self._steps: list[_Step] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the classifier's loss, which is called in training alone."""
        assert isinstance(pl_module.loss, nn.Module)
        self._hook = pl_module.loss.register_forward_hook(
            lambda _, inputs, loss: self._losses.append(loss.detach().float())
        )
        self._mean_loss = self._mean_loss.to(pl_module.device, torch.float32)
        self._buffers = [*pl_module.net.buffers()]  # type: ignore[union-attr]
        metrics: Any = pl_module.metrics["fit"]  # type: ignore[index]
        self._metrics = [m for m in metrics.values() if isinstance(m, Metric)]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the images, and before a step's first batch what a bad one would spoil."""
        if self._restore_point is None:
            self._restore_point = RestorePoint(self._buffers, self._metrics)
        indices = getattr(getattr(trainer, "datamodule", None), "batch_indices", None)
        self._images += [] if indices is None else indices.tolist()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Judge the step, and have a bad one skipped; the classifier clips by the same norm."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
        pl_module.grad_norm = norm
        has_scaler = getattr(trainer.precision_plugin, "scaler", None) is not None
        loss = torch.stack(self._losses).mean()
        is_bad = self._judge(loss, loss if has_scaler else norm, trainer.world_size)
        is_fused = bool(optimizer.defaults.get("fused"))
        if is_free_to_read(is_bad) or (self.max_bad_steps and not is_fused):
            if is_bad:
                for p in params:
                    p.grad = None  # optimizers pass over such parameters
        elif is_fused and not has_scaler:
            optimizer.found_inf = is_bad.float()  # type: ignore[attr-defined]
        if self._restore_point is not None:
            self._restore_point.restore_where(is_bad)
        rate = optimizer.param_groups[-1]["lr"]
        step, epoch = trainer.global_step + 1, trainer.current_epoch + 1
        self._steps.append(_Step(step, epoch, rate, self._images, loss, norm, is_bad))
        self._restore_point, self._losses, self._images = None, [], []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the steps when it is time."""
        for optimizer in trainer.optimizers:
            vars(optimizer).pop("found_inf", None)
        every = max(1, min(trainer.log_every_n_steps, _MAX_STEPS))  # type: ignore[attr-defined]
        if self._steps and (is_free_to_read(self._steps[-1].is_bad) or len(self._steps) >= every):
            self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the rest of the epoch's steps."""
        self._look(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the steps before the validation."""
        self._look(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the loss as it was found."""
        if self._hook is not None:
            self._hook.remove()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the counts; refuse to store what is not finite, before a file is touched.

        Raises:
            ConfigError, FloatingPointError: Too many steps were bad, or weights or the optimizer's state are
                not finite.
        """
        self._look(trainer, pl_module)
        if name := find_nonfinite(checkpoint, {name for name, _ in pl_module.named_parameters()}):
            raise diverged(
                trainer,
                f"{name} is not finite after step {trainer.global_step}: no checkpoint was written, and the "
                f"earlier ones are as they were; {ADVICE}",
            )
        checkpoint["guard"] = {
            "num_in_row": self._num_in_row,
            "num_bad": self.num_bad,
            "mean_loss": self._mean_loss.tolist(),
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the counts."""
        if (state := checkpoint.get("guard")) is not None:
            self._num_in_row, self.num_bad = state["num_in_row"], state["num_bad"]
            self._mean_loss = torch.tensor(state["mean_loss"])

    def _judge(self, loss: Tensor, norm: Tensor, world_size: int) -> Tensor:
        """Return whether a step is bad, for all processes alike, without waiting for its device."""
        is_finite = loss.isfinite() & norm.isfinite()
        worst = torch.stack([(~is_finite).float(), loss.nan_to_num()])
        if world_size > 1:
            dist.all_reduce(worst, dist.ReduceOp.MAX)
        is_bad, loss = worst[0] > 0, worst[1]
        if self.max_loss_ratio is not None:
            mean, num = self._mean_loss
            is_bad = is_bad | ((num >= _WARMUP) & (loss > self.max_loss_ratio * mean))
            updated = torch.stack([mean + (loss - mean) / (num + 1).clamp(max=_WINDOW), num + 1])
            self._mean_loss = torch.where(is_bad, self._mean_loss, updated)
        return is_bad

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the bad ones among the steps since the last look."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        flags = torch.stack([step.is_bad for step in steps]).tolist()
        bad = []
        for step, is_bad in zip(steps, flags, strict=True):
            self._num_in_row = self._num_in_row + 1 if is_bad else 0
            bad += [step] if is_bad else []
            if self._num_in_row > self.max_bad_steps:
                break
        if not bad:
            return
        weight_norm = float(torch.nn.utils.get_total_norm(pl_module.parameters()))
        write_bad_steps(trainer, [_row(step, trainer.global_rank, weight_norm) for step in bad])
        self.num_bad += len(bad)
        if self._num_in_row > self.max_bad_steps:
            raise diverged(trainer, self._explain(bad[-1]))
        log.warning(
            "step %d was skipped: its loss is %.4g, the norm of its gradient %.4g; see %s",
            *(bad[-1].step, float(bad[-1].loss), float(bad[-1].grad_norm), FILE),
        )

    def _explain(self, step: _Step) -> str:
        loss, norm = float(step.loss), float(step.grad_norm)
        what = f"train/loss in epoch {step.epoch}, step {step.step}, is {loss:.6g}"
        if math.isfinite(loss) and not math.isfinite(norm):
            what = f"the gradient's norm in epoch {step.epoch}, step {step.step}, is {norm}"
        skipped = f" ({self.max_bad_steps} bad steps in a row were skipped)" * bool(
            self.max_bad_steps
        )
        return f"{what} at learning rate {step.learning_rate:.3g}{skipped}; {ADVICE}"


def diverged(trainer: Trainer, message: str) -> ConfigError | FloatingPointError:
    """Make the error for what is not finite.

    In a run's first epoch its config is refused, with status 2: it cannot be trained; and so is an
    evaluation alone. Later the run has failed, with status 1.
    """
    return ConfigError(message) if trainer.current_epoch == 0 else FloatingPointError(message)


def _row(step: _Step, rank: int, weight_norm: float) -> BadStep:
    images = " ".join(map(str, step.images))
    loss, norm = float(step.loss), float(step.grad_norm)
    return BadStep(step.step, step.epoch, rank, loss, norm, weight_norm, step.learning_rate, images)
