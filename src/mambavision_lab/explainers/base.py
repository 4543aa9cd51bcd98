"""What every method returns, and the map that a picture is made of."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.errors import ConfigError


@dataclass(frozen=True)
class Explanation:
    """Where in an image a method finds what mattered.

    Attributes:
        map: (H, W) of the image, float32, >= 0 and not normalised; a larger value mattered more.
        source: What was computed, and from which layers.
        layers: Further maps (H, W) by the name of their layer, in the network's order.
        details: Other results by name, such as a histogram's values; of any shape.
        notes: What to know when reading the map, a sentence each.
    """

    map: Tensor
    source: str
    layers: dict[str, Tensor] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def to_image(grid: Tensor, image: Tensor) -> Tensor:
    """Enlarge a map of tokens (rows, columns) to the size of the image (1, C, H, W), bilinearly."""
    size = tuple(image.shape[-2:])
    wide = F.interpolate(grid[None, None].float(), size, mode="bilinear", align_corners=False)
    return wide[0, 0].clamp_min(0)


def require_finite(x: Tensor, what: str) -> Tensor:
    """Return a tensor whose values are all finite.

    Raises:
        ConfigError: They are not.
    """
    if not torch.isfinite(x).all():
        raise ConfigError(
            f"{what}: holds NaN or infinity, which no map explains; "
            "check the weights, and the image's values"
        )
    return x
