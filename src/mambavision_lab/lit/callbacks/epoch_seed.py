"""Make each epoch's randomness a function of the run's seed, the epoch and the rank alone."""

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class EpochSeed(Callback):
    """Seed torch at the start of each training epoch.

    A run that resumes from the end of an epoch then samples the augmentation and dropout of the uninterrupted
    run, and each rank samples its own. (Random crops of image files, made in the loader's workers, have
    seeds of their own and are not repeated.)

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the epoch."""
        source = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        torch.manual_seed(int(source.generate_state(1, np.uint64)[0]))
