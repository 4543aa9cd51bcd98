"""Make each step's randomness a function of the run's seed, the epoch, the batch and the rank alone."""

import hashlib
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class BatchSeed(Callback):
    """Seed torch before each training batch.

    Wherever a run resumes, dropout and drop path then sample what the uninterrupted run does, and each rank
    samples its own. (Augmentation has random numbers of its own, those of each image.)

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the batch."""
        seed_batch(self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)


def seed_batch(*numbers: int) -> None:
    """Seed torch on all devices by some numbers.

    On the CPU in 8 microseconds; `torch.manual_seed` takes 300, to look for devices.
    """
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little")
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
