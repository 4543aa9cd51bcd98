"""What every method returns, and what they share: maps as large as the image, batches that fit in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError

_MOST_PIXELS = 2**22  # that go through a network at once
_MODES = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Explanation:
    """Where in an image a method finds what mattered.

    Attributes:
        map: (H, W) of the image, (D, H, W) of a volume or clip; float32, >= 0 and not normalised. A larger
            value mattered more.
        source: What was computed, and from which layers.
        layers: Further maps of that shape by the name of their layer, in the network's order.
        details: Other results by name, such as a histogram's values; of any shape.
        notes: What to know when reading the map, a sentence each.
    """

    map: Tensor
    source: str
    layers: dict[str, Tensor] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def to_image(grid: Tensor, image: Tensor) -> Tensor:
    """Enlarge a map of tokens (rows, columns) to the size of the image (1, C, H, W), linearly.

    Of a volume or clip both have slices before the rows.
    """
    return resize(grid.float(), image.shape[2:]).clamp_min(0)


def resize(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate a map, linearly along each axis."""
    mode = _MODES[grid.ndim]
    return F.interpolate(grid[None, None], tuple(size), mode=mode, align_corners=False)[0, 0]


def in_batches(images: Tensor) -> tuple[Tensor, ...]:
    """Split images or volumes (N, C, *sides) into batches that fit in memory."""
    return images.split(max(1, _MOST_PIXELS // images[0, 0].numel()))


@contextmanager
def without_slabs(net: nn.Module) -> Iterator[None]:
    """Let a network compute volumes at once, and not in slabs, within which no hook is called."""
    anything: Any = net
    slab_slices = getattr(net, "slab_slices", None)
    try:
        if slab_slices is not None:
            anything.slab_slices = None
        yield
    finally:
        if slab_slices is not None:
            anything.slab_slices = slab_slices


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
