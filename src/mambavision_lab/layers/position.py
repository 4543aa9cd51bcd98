"""The grid of tokens of an image, and the learned position embedding on it."""

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.errors import ConfigError


def token_grid(sides: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Return how many tokens an image has along each axis, down and across.

    Args:
        sides: Of the image in pixels: height and width; before them the slices of a volume.
        patch: Pixels per token along each axis.

    Raises:
        ConfigError: A side is not a multiple of the patch size.
    """
    check_axes(sides, patch)
    if not all(side and side % size == 0 for side, size in zip(sides, patch, strict=True)):
        pairs = list(zip(sides, patch, strict=True))
        below = by(max(size, n // size * size) for n, size in pairs)
        above = by(max(1, -(-n // size)) * size for n, size in pairs)
        size = patch[0] if len({*patch}) == 1 else by(patch)
        which = "both" if len(sides) == 2 else "all"
        raise ConfigError(
            f"image of {by(sides)} pixels: {which} sides must be multiples of the patch size "
            f"{size}; the next sizes that fit are {below} and {above}"
        )
    return tuple(side // size for side, size in zip(sides, patch, strict=True))


def resize_pos_embed(pos_embed: Tensor, grid: Sequence[int]) -> Tensor:
    """Interpolate a position embedding (1, dim, *sides) to another grid.

    Bicubic along rows and columns, linear along slices.
    """
    if tuple(pos_embed.shape[2:]) == tuple(grid):
        return pos_embed
    plane, dim = tuple(grid[-2:]), pos_embed.shape[1]
    wide = pos_embed.float()
    if pos_embed.ndim == 4:
        wide = F.interpolate(wide, plane, mode="bicubic", antialias=True)
        return wide.to(pos_embed.dtype)
    if tuple(wide.shape[3:]) != plane:
        wide = F.interpolate(wide.flatten(1, 2), plane, mode="bicubic", antialias=True)
    lines = wide.reshape(1, dim, -1, plane[0] * plane[1])
    if lines.shape[2] != grid[0]:
        size = (grid[0], lines.shape[3])
        lines = F.interpolate(lines, size, mode="bilinear", antialias=True)
    return lines.reshape(1, dim, *grid).to(pos_embed.dtype)


def check_axes(sides: Sequence[int], wanted: Sequence[int]) -> None:
    """Refuse images where a network takes volumes, and the other way round.

    Raises:
        ConfigError: The numbers of axes differ.
    """
    if len(sides) != len(wanted):
        names = {2: "images (N, C, H, W)", 3: "volumes or clips (N, C, D, H, W)"}
        given = names.get(len(sides), f"something of {len(sides)} axes")
        raise ConfigError(
            f"the network takes {names[len(wanted)]}, not {given}; "
            f"choose model.dims={len(sides)}, or other data"
        )


def by(sides: Iterable[int]) -> str:
    """Write sides as in "28 x 32"."""
    return " x ".join(map(str, sides))
