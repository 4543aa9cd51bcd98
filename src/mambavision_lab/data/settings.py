"""Check the settings that all data modules have."""

import math
from collections.abc import Sequence

from mambavision_lab.errors import ConfigError


def require_positive(**settings: int) -> None:
    """Refuse settings of the data below 1.

    Raises:
        ConfigError: One is.
    """
    for name, value in settings.items():
        if value < 1:
            raise ConfigError(f"data.{name}={value} must be at least 1")


def check_loading(
    num_workers: int | None, worker_timeout_s: float, val_fraction: float, sampler: str
) -> None:
    """Check how a data module splits and loads its images.

    Raises:
        ConfigError: A setting is impossible.
    """
    if num_workers is not None and num_workers < 0:
        raise ConfigError(f"data.num_workers={num_workers}: wanted 0 or more, or null")
    if not 0 <= worker_timeout_s < math.inf:
        raise ConfigError(
            f"data.worker_timeout_s={worker_timeout_s}: wanted a number of seconds, or 0"
        )
    if not 0 < val_fraction < 1:
        raise ConfigError(f"data.val_fraction={val_fraction} must lie between 0 and 1")
    if sampler not in ("random", "balanced"):
        raise ConfigError(f"data.sampler={sampler} is unknown; choose random or balanced")


def check_normalisation(mean: Sequence[float], std: Sequence[float], in_chans: int) -> None:
    """Check mean and standard deviation per channel: one value each, or in_chans of them.

    Raises:
        ConfigError: They are others, not finite, or a deviation is not above 0.
    """
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, in_chans):
            raise ConfigError(
                f"data.{name} has {len(values)} values for {in_chans} channels; "
                "give one, or one per channel"
            )
        are_finite = all(isinstance(v, int | float) and math.isfinite(v) for v in values)
        if not are_finite or (name == "std" and min(values) <= 0):
            least = " above 0" if name == "std" else ""
            raise ConfigError(f"data.{name}={list(values)}: wanted numbers{least}")


def check_crop_fraction(crop_fraction: float) -> None:
    """Check the share of the shorter side that evaluation looks at.

    Raises:
        ConfigError: It is none.
    """
    if not 0 < crop_fraction <= 1:
        raise ConfigError(
            f"data.crop_fraction={crop_fraction}: wanted a share above 0 and at most 1"
        )
