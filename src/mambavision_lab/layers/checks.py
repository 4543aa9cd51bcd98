"""Refuse sizes and rates with which no network can be made, by the argument's name."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any


def check_counts(*, minimum: int = 1, **counts: Any) -> None:
    """Refuse what is no whole number of at least the minimum; a sequence is checked by its elements.

    Raises:
        ValueError: One is refused; the message names it.
    """
    for name, given in counts.items():
        is_sequence = isinstance(given, Sequence) and not isinstance(given, str)
        for value in given if is_sequence else [given]:
            if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
                wanted = "integers" if is_sequence else "an integer"
                raise ValueError(f"{name}={given!r}: wanted {wanted} of at least {minimum}")


def check_rates(**rates: Any) -> None:
    """Refuse what is no number from 0 to below 1.

    Raises:
        ValueError: One is refused; the message names it.
    """
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ValueError(f"{name}={rate!r}: wanted a number from 0 to below 1")


def check_multiple(dim: int, *, minimum: int = 1, **ratios: Any) -> None:
    """Refuse what is no number, or makes fewer channels than the minimum out of dim.

    Raises:
        ValueError: One is refused; the message names it.
    """
    for name, ratio in ratios.items():
        if not isinstance(ratio, int | float) or not math.isfinite(ratio) or ratio * dim < minimum:
            raise ValueError(
                f"{name}={ratio!r}: wanted a number that makes at least {minimum} channels out of {dim}"
            )


def check_scales(**scales: Any) -> None:
    """Refuse an initial factor that is no finite number; None stands for no factor.

    Raises:
        ValueError: One is refused; the message names it.
    """
    for name, scale in scales.items():
        is_number = isinstance(scale, int | float) and math.isfinite(scale)
        if scale is not None and not is_number:
            raise ValueError(f"{name}={scale!r}: wanted a finite number, or None for no factors")
