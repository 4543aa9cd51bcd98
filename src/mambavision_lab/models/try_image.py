"""Give a network one image, to find out at once what it takes and what it gives."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mambavision_lab.errors import ConfigError, reason


def try_image(net: nn.Module, in_chans: int, sides: int | Sequence[int]) -> Any:
    """Return what a network gives for one black image, or a volume of these sides; its mode stays.

    Raises:
        ValueError: It does not take one; the message is the network's reason.
    """
    was_training = net.training
    like = next(net.parameters(), torch.zeros(()))  # an exported file has none
    image = torch.zeros(1, in_chans, *_all(sides), device=like.device, dtype=like.dtype)
    try:
        with torch.no_grad():
            return net.eval()(image)
    except (ValueError, RuntimeError, AssertionError) as error:  # timm's are of all kinds
        raise ValueError(reason(error, 160)) from error
    finally:
        net.train(was_training)


def try_size(net: nn.Module, in_chans: int, sides: int | Sequence[int], setting: str) -> None:
    """Refuse the size of an image, or the sides of a volume, that a network does not take.

    Raises:
        ConfigError: It does not; the message begins with setting.
    """
    try:
        try_image(net, in_chans, sides)
    except ValueError as error:
        raise ConfigError(
            f"{setting}: {type(net).__name__} does not take images of {' x '.join(map(str, _all(sides)))} "
            f"pixels ({error}); choose another size"
        ) from error


def _all(sides: int | Sequence[int]) -> list[int]:
    return [sides, sides] if isinstance(sides, int) else list(sides)
