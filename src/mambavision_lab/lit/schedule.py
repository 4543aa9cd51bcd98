"""Learning-rate schedules, stepped once per optimizer step.

Source: Loshchilov and Hutter 2016, arXiv:1608.03983 (cosine); Goyal et al. 2017, arXiv:1706.02677
(linear warm-up); Hu et al. 2024, arXiv:2404.06395 (warm-up, stable, decay); Smith and Topin 2017,
arXiv:1708.07120 (one cycle).
"""

import math

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mambavision_lab.errors import ConfigError


def cosine_with_warmup(
    optimizer: Optimizer,
    num_steps: float,
    steps_per_epoch: float,
    *,
    warmup_epochs: float = 1.0,
    cooldown_epochs: float = 0.0,
    start_lr_ratio: float | None = None,
    min_lr_ratio: float = 0.01,
) -> LambdaLR:
    """Rise linearly for warmup_epochs, fall along half a cosine to min_lr_ratio of the peak, and stay there.

    The values are those of timm's `CosineLRScheduler` with `warmup_prefix`: the cosine begins where the
    warm-up ends.

    Args:
        optimizer: Its learning rates are the peak.
        num_steps: Optimizer steps of the whole run.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the rise; may be a fraction.
        cooldown_epochs: Length of the end at the lowest rate; may be a fraction.
        start_lr_ratio: Rate at the beginning of the rise, as a share of the peak; None begins one step's
            rise above zero.
        min_lr_ratio: Rate at the end, as a share of the peak.

    Raises:
        ConfigError: The run has no end, or is shorter than warm-up and cool-down; or a setting is
            impossible.
    """
    _check_epochs(warmup_epochs=warmup_epochs, cooldown_epochs=cooldown_epochs)
    _check_shares(start_lr_ratio=start_lr_ratio, min_lr_ratio=min_lr_ratio)
    if math.isinf(num_steps):
        raise ConfigError(
            "scheduler=cosine needs a run with an end; set trainer.max_epochs or trainer.max_steps"
        )
    warmup = round(warmup_epochs * steps_per_epoch)
    cooldown = round(cooldown_epochs * steps_per_epoch)
    if warmup + cooldown > num_steps:
        parts = f"scheduler.warmup_epochs={warmup_epochs}"
        parts += f" and scheduler.cooldown_epochs={cooldown_epochs}" if cooldown else ""
        raise ConfigError(
            f"{parts} {'are' if cooldown else 'is'} {warmup + cooldown} steps, but the run has only "
            f"{num_steps:.0f}; lower {'them' if cooldown else 'it'} or raise trainer.max_epochs "
            "or trainer.max_steps"
        )
    start = 1 / (warmup + 1) if start_lr_ratio is None else start_lr_ratio

    def factor(step: int) -> float:
        if step < warmup:
            return start + (1 - start) * step / warmup
        progress = min(1, (step - warmup) / max(1, num_steps - cooldown - warmup))
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def linear_with_warmup(
    optimizer: Optimizer,
    num_steps: float,
    steps_per_epoch: float,
    *,
    warmup_epochs: float = 1.0,
    cooldown_epochs: float = 0.0,
    min_lr_ratio: float = 0.0,
) -> LambdaLR:
    """Rise linearly for warmup_epochs, fall linearly to min_lr_ratio, and stay there for cooldown_epochs.

    Args:
        optimizer: Its learning rates are the peak.
        num_steps: Optimizer steps of the whole run.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the rise; may be a fraction.
        cooldown_epochs: Length of the end at the lowest rate; may be a fraction.
        min_lr_ratio: Rate at the end, as a share of the peak.

    Raises:
        ConfigError: The run has no end, or is shorter than warm-up and cool-down; or a setting is
            impossible.
    """
    _check_epochs(warmup_epochs=warmup_epochs, cooldown_epochs=cooldown_epochs)
    _check_shares(min_lr_ratio=min_lr_ratio)
    warmup = round(warmup_epochs * steps_per_epoch)
    end = num_steps - round(cooldown_epochs * steps_per_epoch)
    return _line(optimizer, num_steps, [(-1, 0), (warmup, 1), (end, min_lr_ratio)])


def constant_with_warmup(
    optimizer: Optimizer,
    num_steps: float,
    steps_per_epoch: float,
    *,
    warmup_epochs: float = 0.0,
) -> LambdaLR:
    """Rise linearly for warmup_epochs, then stay at the peak; the run needs no end.

    Args:
        optimizer: Its learning rates are the peak.
        num_steps: Optimizer steps of the whole run; without effect.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the rise; may be a fraction.

    Raises:
        ConfigError: The run is shorter than the warm-up, or this is negative.
    """
    _check_epochs(warmup_epochs=warmup_epochs)
    warmup = round(warmup_epochs * steps_per_epoch)
    if warmup > num_steps:
        raise ConfigError(
            f"scheduler.warmup_epochs={warmup_epochs} is {warmup} steps, but the run has only "
            f"{num_steps:.0f}; lower it or raise trainer.max_epochs or trainer.max_steps"
        )
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup + 1)))


def warmup_stable_decay(
    optimizer: Optimizer,
    num_steps: float,
    steps_per_epoch: float,
    *,
    warmup_epochs: float = 1.0,
    decay_share: float = 0.2,
    min_lr_ratio: float = 0.0,
) -> LambdaLR:
    """Rise linearly for warmup_epochs, stay at the peak, and fall linearly over the last decay_share.

    Args:
        optimizer: Its learning rates are the peak.
        num_steps: Optimizer steps of the whole run.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the rise; may be a fraction.
        decay_share: Length of the fall, as a share of the run.
        min_lr_ratio: Rate at the end, as a share of the peak.

    Raises:
        ConfigError: The run has no end, or is shorter than warm-up and decay; or a setting is impossible.
    """
    _check_epochs(warmup_epochs=warmup_epochs)
    _check_shares(decay_share=decay_share, min_lr_ratio=min_lr_ratio)
    warmup, start = round(warmup_epochs * steps_per_epoch), (1 - decay_share) * num_steps
    return _line(
        optimizer, num_steps, [(-1, 0), (warmup, 1), (start, 1), (num_steps, min_lr_ratio)]
    )


def one_cycle(
    optimizer: Optimizer,
    num_steps: float,
    steps_per_epoch: float,
    *,
    warmup_share: float = 0.25,
    start_lr_ratio: float = 0.04,
    min_lr_ratio: float = 0.0,
) -> LambdaLR:
    """Rise linearly from start_lr_ratio for warmup_share of the run, then fall linearly to min_lr_ratio.

    Args:
        optimizer: Its learning rates are the peak.
        num_steps: Optimizer steps of the whole run.
        steps_per_epoch: Optimizer steps of one epoch; unused, the cycle follows the run.
        warmup_share: Length of the rise, as a share of the run.
        start_lr_ratio: Rate at the beginning, as a share of the peak.
        min_lr_ratio: Rate at the end, as a share of the peak.

    Raises:
        ConfigError: The run has no end, or a share is none.
    """
    _check_shares(
        warmup_share=warmup_share, start_lr_ratio=start_lr_ratio, min_lr_ratio=min_lr_ratio
    )
    peak = warmup_share * num_steps
    return _line(optimizer, num_steps, [(0, start_lr_ratio), (peak, 1), (num_steps, min_lr_ratio)])


def _check_epochs(**settings: float) -> None:
    for name, epochs in settings.items():
        if not 0 <= epochs < math.inf:
            raise ConfigError(f"scheduler.{name}={epochs}: wanted 0 or more epochs")


def _check_shares(**settings: float | None) -> None:
    for name, share in settings.items():
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"scheduler.{name}={share}: wanted a share from 0 to 1")


def _line(optimizer: Optimizer, num_steps: float, corners: list[tuple[float, float]]) -> LambdaLR:
    """Follow straight lines between corners, each a step and a share of the peak; then stay."""
    if math.isinf(num_steps):
        raise ConfigError(
            "scheduler: needs a run with an end; set trainer.max_epochs or trainer.max_steps"
        )
    steps, shares = zip(*corners, strict=True)
    if list(steps) != sorted(steps) or steps[-1] > num_steps:
        raise ConfigError(
            f"scheduler: its parts do not fit a run of {num_steps:.0f} steps; shorten warm-up, decay "
            "or cool-down, or raise trainer.max_epochs or trainer.max_steps"
        )
    return LambdaLR(optimizer, lambda step: float(np.interp(step, steps, shares)))
