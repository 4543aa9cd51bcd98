"""What every training shares: optimizer, schedule, metrics over an epoch, steps that are watched."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.callbacks.finite_loss import FiniteLoss
from mambavision_lab.lit.callbacks.guard import Guard
from mambavision_lab.lit.callbacks.resume import has_open_epoch
from mambavision_lab.lit.phase_metrics import has_counted
from mambavision_lab.metrics import is_count
from mambavision_lab.models.tta import TestTimeAugmentation

Batch = tuple[Tensor, Tensor]

# Choice of scale_lr -> exponent of the ratio of the images per step.
_LR_POWERS = {"sqrt": 0.5, "linear": 1.0}
_METRICS = "train_metrics"  # entry of checkpoints


class TrainingModule(LightningModule):
    """Base of the modules of a task: a subclass says what its logits, losses and metrics are.

    `train/loss` is the loss that is trained; validation and test measure `losses_of`, whatever that is.

    Args:
        net: Maps images (N, C, H, W) to logits. Parameters named by its `no_weight_decay()`, if it has one,
            biases and one-dimensional weights do not decay.
        num_classes: Number of classes.
        metrics: Of training ("fit"), validation and test, each a `ModuleDict` by name; "loss" and
            "num_images" among them.
        loss: What is trained, from logits, targets and images, such as those of `losses.py`.
        optimizer: Makes the optimizer from parameter groups; the `weight_decay` keyword of a partial
            applies to the groups that may decay. None for evaluation only.
        scheduler: Makes a schedule, stepped once per optimizer step, from (optimizer, num_steps,
            steps_per_epoch); None keeps the learning rate constant.
        layer_decay: Learning rate of each layer as a multiple of the next layer's; the head has the
            optimizer's. Layers are those of the network's `group_matcher()`. None gives all the same rate.
        scale_lr: "linear" or "sqrt": the optimizer's learning rate is meant for lr_batch_size images per
            step and is multiplied by the ratio of the real number (batch size times processes times
            accumulated batches) to that, or by its square root. None takes the rate as it is.
        lr_batch_size: Images per step that the rate is meant for; None is one batch.
        batch_size: Images of one batch, for lr_batch_size.
        use_compile: Compile the network in place (checkpoint keys stay).
        channels_last: Keep images and convolutions in channels-last memory.
        metadata: Plain values stored in checkpoints, from which network and data can be rebuilt.

    Attributes:
        has_masks: Whether targets are masks, a class for each pixel, and not labels of images.

    Raises:
        ValueError: layer_decay is not above 0 and at most 1, or scale_lr is unknown.
    """

    has_masks: ClassVar[bool]

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        metrics: nn.ModuleDict,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer] | None = None,
        scheduler: Callable[..., LRScheduler] | None = None,
        layer_decay: float | None = None,
        scale_lr: str | None = None,
        lr_batch_size: int | None = None,
        batch_size: int | None = None,
        use_compile: bool = False,
        channels_last: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if layer_decay is not None and not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay} must be above 0 and at most 1")
        if scale_lr is not None and scale_lr not in _LR_POWERS:
            raise ValueError(f"scale_lr={scale_lr} is unknown; choose linear, sqrt or null")
        self.save_hyperparameters(
            {"channels_last": channels_last, **(metadata or {})}, logger=False
        )
        last = torch.channels_last_3d if getattr(net, "dims", 2) == 3 else torch.channels_last
        self.memory_format = last if channels_last else torch.contiguous_format
        self.net = net.to(memory_format=self.memory_format)
        self.num_classes = num_classes
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.layer_decay = layer_decay
        self.scale_lr = scale_lr
        self.batches_per_lr = 1.0
        if lr_batch_size is not None and batch_size is not None:
            self.batches_per_lr = lr_batch_size / batch_size
        self.loss = loss
        self.use_compile = use_compile
        self.is_dynamic: bool | None = (
            None  # of compiled code; False: each size of images has its own
        )
        self.tta: TestTimeAugmentation | None = None  # in the test alone
        self.grad_norm: Tensor | None = None  # of this step's gradient, where a guard measured it
        self.metrics = metrics

    def logits_shape(self, images: Tensor) -> tuple[int, ...]:
        """Return the shape that the logits of a batch must have."""
        raise NotImplementedError

    def losses_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each image, (N,), by which validation and test compare all trainings."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return logits for images (N, C, H, W).

        Raises:
            ConfigError: The network gives something else, such as maps in place of classes.
        """
        # Not float32 in a run with precision=bf16-true; an exported file has no parameters.
        dtype = next((p.dtype for p in self.net.parameters()), torch.float32)
        logits = self.net(images.to(dtype).contiguous(memory_format=self.memory_format))
        if logits.shape != (wanted := self.logits_shape(images)):
            advice = "a decoder, as model=segmentation" if self.has_masks else "pooled features"
            raise ConfigError(
                f"net: {type(self.net).__name__} gives {tuple(logits.shape)} for {len(images)} images "
                f"instead of logits {wanted}; give it a head for the "
                f"{self.num_classes} classes, and {advice}"
            )
        return logits

    def setup(self, stage: str) -> None:
        """Compile the network, once."""
        if self.use_compile and self.net._compiled_call_impl is None:
            self.net.compile(dynamic=self.is_dynamic)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, targets = batch
        logits = self(images)
        loss = self.loss(logits, targets, images)
        self._update("fit", loss.expand(len(images)), logits, targets)
        # One value every few steps: a log call costs as much as the rest of Lightning's step.
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.global_step % max(1, every) == 0:
            self.log("train/loss_step", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Add one batch to the test metrics; returns its logits, for callbacks that store predictions."""
        return self._evaluate("test", batch)

    def configure_callbacks(self) -> list[Callback]:
        """Stop a run, whichever Trainer runs it, when its loss is no longer finite."""
        is_guarded = any(isinstance(c, Guard) for c in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [FiniteLoss(), *([] if is_guarded else [Guard()])]

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics.

        None has counted anything where the run resumed after the epoch's last step.
        """
        self._log("fit", prefix="train")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the training metrics of an unfinished epoch, summed over processes."""
        if has_open_epoch(checkpoint):
            checkpoint[_METRICS] = {
                name: {key: self._sum(state) for key, state in metric.metric_state.items()}
                for name, metric in self._metrics_of("fit").items()
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them, in the first process."""
        states = checkpoint.get(_METRICS)
        if states and self.trainer.training and self.trainer.is_global_zero:
            for name, metric in self._metrics_of("fit").items():
                for key, x in states[name].items():
                    setattr(metric, key, x.to(metric.device))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log("val", prefix="val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log("test", prefix="test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer, and the schedule for the number of steps of this run."""
        assert self.make_optimizer is not None, "an optimizer is needed to train"
        weight_decay = getattr(self.make_optimizer, "keywords", {}).get("weight_decay", 0.0)
        optimizer = self.make_optimizer(param_groups(self.net, weight_decay, self.layer_decay))
        scale = 1.0 if self.scale_lr is None else self.lr_factor(self.trainer)
        for group in optimizer.param_groups:
            group["lr"] *= scale * group.pop("lr_scale", 1.0)
        if self.make_scheduler is None:
            return optimizer
        num_steps = self.trainer.estimated_stepping_batches
        self.trainer.fit_loop.setup_data()  # the length of an epoch is unknown before
        per_epoch = math.ceil(
            self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        )
        scheduler = self.make_scheduler(optimizer, num_steps=num_steps, steps_per_epoch=per_epoch)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, by the norm that the guard has measured where there is one."""
        norm, self.grad_norm = self.grad_norm, None
        precision: Any = self.trainer.precision_plugin
        is_plain = (
            type(precision).clip_grad_by_norm is Precision.clip_grad_by_norm
            and getattr(precision, "scaler", None) is None
            and gradient_clip_algorithm in (None, "norm")
        )
        if norm is None or not gradient_clip_val or not is_plain:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        params = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grads_with_norm_(params, float(gradient_clip_val), norm)

    def lr_factor(self, trainer: Trainer) -> float:
        """Return what the optimizer's learning rate is multiplied by for the images of a trainer's step."""
        if self.scale_lr is None:
            return 1.0
        num_batches = trainer.world_size * trainer.accumulate_grad_batches
        return (num_batches / self.batches_per_lr) ** _LR_POWERS[self.scale_lr]

    def metric_names(self) -> list[str]:
        """List the metrics of validation and test, such as `val/acc1`."""
        return [
            f"{phase}/{name}"
            for phase in ("val", "test")
            for name in self._metrics_of(phase)
            if not is_count(name)
        ]

    def _evaluate(self, phase: str, batch: Batch) -> Tensor:
        images, targets = batch
        logits = self._predict(images, is_test=phase == "test")
        self._update(phase, self.losses_of(logits, targets), logits, targets)
        return logits

    def _predict(self, images: Tensor, is_test: bool) -> Tensor:
        return self(images)

    def _update(self, phase: str, losses: Tensor, logits: Tensor, targets: Tensor) -> None:
        for name, metric in self._metrics_of(phase).items():
            if name == "loss":
                metric.update(losses.detach().float())
            elif name == "num_images":
                metric.update(len(logits))
            elif not targets.is_floating_point():  # labels, not shares of the classes
                metric.update(logits.detach(), targets)

    def _log(self, phase: str, prefix: str) -> None:
        for name, metric in self._metrics_of(phase).items():
            if has_counted(metric):
                self.log(f"{prefix}/{name}", metric, prog_bar=phase == "val")

    def _sum(self, state: Any) -> Tensor:
        """Sum a metric's state over processes."""
        return self.all_gather(state).sum(0) if self.trainer.world_size > 1 else state.clone()  # type: ignore[union-attr]

    def _metrics_of(self, phase: str) -> dict[str, Metric]:
        return dict(self.metrics[phase].items())  # type: ignore[operator]


def param_groups(
    net: nn.Module, weight_decay: float, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Split a network's parameters into groups without and with weight decay.

    With layer_decay each layer has groups of its own, whose `lr_scale` is its share of the head's rate.
    """
    no_decay: Any = getattr(net, "no_weight_decay", tuple)()
    if layer_decay is None:
        return param_groups_weight_decay(net, weight_decay, no_weight_decay_list=no_decay)
    return param_groups_layer_decay(
        net, weight_decay, no_weight_decay_list=no_decay, layer_decay=layer_decay
    )
