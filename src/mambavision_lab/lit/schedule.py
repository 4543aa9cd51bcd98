"""Learning-rate schedules, stepped once per optimizer step.

Source: Loshchilov and Hutter 2016, arXiv:1608.03983 (cosine); Goyal et al. 2017, arXiv:1706.02677
(linear warm-up).
"""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mambavision_lab.errors import ConfigError


def cosine_with_warmup(
    optimizer: Optimizer,
    num_steps: float,
    steps_per_epoch: float,
    *,
    warmup_epochs: float = 1.0,
    min_lr_ratio: float = 0.01,
) -> LambdaLR:
    """Rise linearly for warmup_epochs, then fall along half a cosine to min_lr_ratio of the peak.

    Args:
        optimizer: Its learning rates are the peak.
        num_steps: Optimizer steps of the whole run.
        steps_per_epoch: Optimizer steps of one epoch.
        warmup_epochs: Length of the rise; may be a fraction.
        min_lr_ratio: Rate at the end, as a share of the peak.

    Raises:
        ConfigError: The run has no end, or is shorter than the warm-up; or a setting is impossible.
    """
    if not 0 <= warmup_epochs < math.inf:
        raise ConfigError(f"scheduler.warmup_epochs={warmup_epochs}: wanted 0 or more epochs")
    if not 0 <= min_lr_ratio <= 1:
        raise ConfigError(f"scheduler.min_lr_ratio={min_lr_ratio}: wanted a share from 0 to 1")
    if math.isinf(num_steps):
        raise ConfigError(
            "scheduler=cosine needs a run with an end; set trainer.max_epochs or trainer.max_steps"
        )
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if warmup_steps > num_steps:
        raise ConfigError(
            f"scheduler.warmup_epochs={warmup_epochs} is {warmup_steps} steps, but the run has only "
            f"{num_steps:.0f}; lower it or raise trainer.max_epochs"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1, progress)))

    return LambdaLR(optimizer, factor)
