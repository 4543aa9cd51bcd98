"""Look for a learning rate or a batch size, with Lightning's tuner: `train.py tune=lr` or `tune=batch_size`.

Nothing is trained or changed: weights are put back, and what was found is printed as an override to copy.

Source: Smith 2015, arXiv:1506.01186 (the range test of learning rates).
"""

from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.tuner.tuning import Tuner
from omegaconf import DictConfig, open_dict

from mambavision_lab.counting import counted
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.training_module import TrainingModule
from mambavision_lab.report.figures import COLORS, new_figure
from mambavision_lab.runs.folder import short_path
from mambavision_lab.tasks.build import build_trainer
from mambavision_lab.tasks.console import console

_MIN_LR, _MAX_LR, _NUM_STEPS = 1e-7, 1.0, 100
_SKIPPED = 10  # first steps, whose averages are of few losses
_BETA = 0.98  # of Lightning's averages
_NEVER = 2**31


def tuning_trainer(cfg: DictConfig) -> Trainer:
    """Make the trainer of a config without what belongs to a whole run, such as callbacks and validation.

    Raises:
        ConfigError: There are several processes, or no memory of a GPU that a batch could fill.
    """
    copied = cfg.copy()
    with open_dict(copied):
        copied.callbacks = copied.logger = None
        copied.trainer.update(
            max_epochs=-1,
            check_val_every_n_epoch=_NEVER,
            val_check_interval=None,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
    trainer = build_trainer(copied)
    check_tunable(cfg.tune, trainer)
    return trainer


def check_tunable(name: str, trainer: Trainer) -> None:
    """Refuse what cannot be tuned here, where the config did not tell.

    Raises:
        ConfigError: There are several processes, or no memory of a GPU that a batch could fill.
    """
    if trainer.world_size > 1:
        raise ConfigError(
            f"tune={name}: runs in one process, and there are {trainer.world_size}; give "
            "trainer.devices=1 (classifier.scale_lr carries the rate over to more)"
        )
    if name == "batch_size" and trainer.strategy.root_device.type != "cuda":
        raise ConfigError(
            "tune=batch_size: looks for the batch that fills the memory of a CUDA GPU, and there is none; "
            "elsewhere compare train/images_per_s, with -m data.batch_size=32,64,128"
        )


def tune(
    cfg: DictConfig,
    trainer: Trainer,
    classifier: TrainingModule,
    data: ImageDataModule,
    folder: Path,
) -> None:
    """Do what `cfg.tune` names and print the values found.

    Args:
        cfg: The config of the training.
        trainer: As `tuning_trainer` makes it.
        classifier: Of the training.
        data: Of the training.
        folder: The run folder, for the picture.

    Raises:
        ConfigError: The loss falls at no learning rate.
    """
    if cfg.tune == "lr":
        found = _tune_lr(trainer, classifier, data, folder / "tune_lr.png")
    else:
        found = _tune_batch_size(trainer, classifier, data)
    console.print(
        f"nothing was trained or changed; to use what was found, give {found}", soft_wrap=True
    )


def _tune_lr(
    trainer: Trainer, classifier: TrainingModule, data: ImageDataModule, picture: Path
) -> str:
    """Raise the rate step by step until the loss diverges; returns the override of the steepest fall."""
    factor = classifier.lr_factor(trainer)
    classifier.make_scheduler = None  # the test has its own
    finder = Tuner(trainer).lr_find(
        classifier,
        datamodule=data,
        min_lr=_MIN_LR * factor,
        max_lr=_MAX_LR * factor,
        num_training=_NUM_STEPS,
        update_attr=False,
    )
    assert finder is not None
    num_steps = min(len(finder.results["lr"]), len(finder.results["loss"]))
    if num_steps < 2:
        raise ConfigError(
            f"tune=lr: {counted(num_steps, 'steps')} could be measured of {_NUM_STEPS}; an epoch "
            f"needs as many batches as make a step, {trainer.accumulate_grad_batches}: raise "
            "trainer.limit_train_batches, or give more images"
        )
    rates = np.asarray(finder.results["lr"][:num_steps]) / factor  # as optimizer.lr states them
    steps = np.arange(1, num_steps + 1)
    # Lightning corrects the n-th average for a start at zero as if it were the next.
    correction = (1 - _BETA ** (steps + 1)) / (1 - _BETA**steps)
    losses = np.asarray(finder.results["loss"][:num_steps]) * correction
    best = find_steepest(rates, losses)
    figure, axes = new_figure()
    axes.plot(rates, losses, color=COLORS[0])
    axes.set(xscale="log", xlabel="optimizer.lr", ylabel="train/loss, averaged over steps")
    if best is not None:
        axes.plot(rates[best], losses[best], "o", color=COLORS[1], label=f"{rates[best]:.2g}")
        axes.legend(title="steepest fall")
    figure.savefig(picture, dpi=150)
    console.print(f"range test: {short_path(picture)}", soft_wrap=True)
    if best is None:
        raise ConfigError(
            f"tune=lr: the loss falls at no rate from {_MIN_LR:g} to {_MAX_LR:g}; look at {picture}"
        )
    return f"optimizer.lr={rates[best]:.2g}"


def find_steepest(rates: np.ndarray, losses: np.ndarray) -> int | None:
    """Find the step of a range test at which the loss falls fastest with the rate's logarithm.

    (Lightning's own suggestion takes the rate itself, whose steps are tiny where it is small.)

    Returns:
        None where it falls nowhere.
    """
    usable = np.flatnonzero(np.isfinite(losses))
    usable = usable[usable >= min(_SKIPPED, len(losses) // 2)]
    if len(usable) < 2:
        return None
    slopes = np.gradient(losses[usable], np.log(rates[usable]))
    return int(usable[slopes.argmin()]) if slopes.min() < 0 else None


def _tune_batch_size(trainer: Trainer, classifier: TrainingModule, data: ImageDataModule) -> str:
    """Double the batch until the memory is full; returns the override of the largest that fits."""
    trainer.accumulate_grad_batches = 1
    classifier.make_scheduler = None
    data.multi_scale = None  # all images of the largest size
    num_train = len(data.splits.train)  # type: ignore[arg-type]
    found = Tuner(trainer).scale_batch_size(classifier, datamodule=data, init_val=8)
    if found is not None and found >= num_train:
        console.print(f"the {num_train:,} training images fit into one batch", soft_wrap=True)
    return f"data.batch_size={found}"
