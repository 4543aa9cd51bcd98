"""Check what only the data, the network and the device tell, before the first step of a training."""

import logging
import math
from functools import partial

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from mambavision_lab.counting import counted
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.lit.training_module import TrainingModule
from mambavision_lab.ops.selective_scan.backends.base import ScanInputs
from mambavision_lab.ops.selective_scan.backends.registry import BACKENDS, why_not

log = logging.getLogger(__name__)


def check_start(trainer: Trainer, net: nn.Module, data: ImageDataModule) -> None:
    """Check that a training can reach its end with these data, on this device.

    Raises:
        ConfigError: A limit leaves no batch, validation would never come, or the scan's backend cannot run.
    """
    data.trainer = trainer  # shares the images among its processes
    num_batches = {
        split: _limited(trainer, split, len(loader()))
        for split, loader in (
            ("train", data.train_dataloader),
            ("val", data.val_dataloader),
            ("test", data.test_dataloader),
        )
    }
    interval = trainer.val_check_interval
    is_within_epoch = trainer.check_val_every_n_epoch is not None and num_batches["val"]
    if isinstance(interval, int) and is_within_epoch and interval > num_batches["train"] > 0:
        raise ConfigError(
            f"trainer.val_check_interval={interval}: an epoch has "
            f"{counted(num_batches['train'], 'batches')}; lower it, "
            "or count over epochs with trainer.check_val_every_n_epoch=null"
        )
    wanted, num_train = data.global_batch_size, len(data.train_dataloader())
    if wanted is not None and num_train < trainer.accumulate_grad_batches:
        raise ConfigError(
            f"data.global_batch_size={wanted}: an epoch has {counted(num_train, 'batches')}, and a step "
            f"takes {trainer.accumulate_grad_batches}; lower it"
        )
    _check_backend(net, trainer)
    if trainer.is_global_zero and any(
        type(c) is ModelCheckpoint for c in trainer.checkpoint_callbacks
    ):
        log.warning(
            "callbacks: Lightning's ModelCheckpoint may keep weights that were never validated under a score "
            "of others, and its last.ckpt may be of an earlier epoch; callbacks.checkpoint and "
            "callbacks.newest of callbacks=default do neither"
        )


def check_schedule(trainer: Trainer, module: TrainingModule, data: ImageDataModule) -> None:
    """Make the learning rate's schedule for the steps of this run once, before its folder is written.

    Raises:
        ConfigError: It does not fit them.
    """
    num_batches = _limited(trainer, "train", len(data.train_dataloader()))
    if module.make_scheduler is None or not num_batches:
        return
    per_epoch = math.ceil(num_batches / trainer.accumulate_grad_batches)
    limits = (trainer.max_epochs or -1) * per_epoch, trainer.max_steps
    num_steps = min((limit for limit in limits if limit >= 0), default=math.inf)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    module.make_scheduler(optimizer, num_steps=num_steps, steps_per_epoch=per_epoch)


def _limited(trainer: Trainer, split: str, num_batches: int) -> int:
    """Count the batches of a split that `trainer.limit_<split>_batches` leaves."""
    limit = getattr(trainer, f"limit_{split}_batches")
    if isinstance(limit, int):
        return min(limit, num_batches)
    if limit > 0 and int(num_batches * limit) == 0:
        least = math.ceil(1000 / num_batches) / 1000
        raise ConfigError(
            f"trainer.limit_{split}_batches={limit}: is less than one of the {num_batches} batches; give a "
            f"whole number of batches, or a share of at least {least}"
        )
    return int(num_batches * limit)


def _check_backend(net: nn.Module, trainer: Trainer) -> None:
    """Ask the backend that was named for the scan whether it can run there; "auto" always can."""
    dtype = torch.float64 if trainer.precision == "64-true" else torch.float32
    empty = partial(torch.empty, device=trainer.strategy.root_device, dtype=dtype)
    for mixer in net.modules():
        if not isinstance(mixer, MambaVisionMixer) or mixer.scan_backend not in BACKENDS:
            continue
        dim, d_state = mixer.A_log.shape
        u, B = empty(1, 1, dim), empty(1, 1, d_state)
        inputs = ScanInputs(u, u, empty(dim, d_state), B, B, None, None, None, True, False)
        if reason := why_not(mixer.scan_backend, inputs):
            raise ConfigError(f"ops.selective_scan.backend={mixer.scan_backend}: {reason}")
