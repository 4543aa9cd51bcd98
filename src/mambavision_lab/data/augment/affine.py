"""Move each image or volume of a batch by a linear map of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor


def move_affinely(
    images: Tensor, theta: Tensor, interpolation: str = "bilinear", padding: str = "zeros"
) -> Tensor:
    """Return images (N, C, H, W), or volumes (N, C, D, H, W), of the same shape.

    Args:
        images: The batch.
        theta: Where each place comes from, (N, axes, axes + 1), in coordinates from -1 to 1 across the
            pixels of each axis, the last axis first, as `torch.nn.functional.affine_grid` takes it.
        interpolation: "bilinear", along all axes, or "nearest".
        padding: What is let in: as in `torch.nn.functional.grid_sample`.
    """
    grid = _grid(theta.to(images.device, images.dtype), images.shape[2:])
    return F.grid_sample(images, grid, interpolation, padding, align_corners=False)


def _grid(theta: Tensor, sides: torch.Size) -> Tensor:
    """Do as `affine_grid`, whose products of 3 by 3 matrices take eight times as long."""
    num_axes = len(sides)
    ones = [1] * num_axes
    grid = theta.new_empty(len(theta), *sides, num_axes)
    for i in range(num_axes):
        places = theta[:, i, -1].reshape(-1, *ones)
        for axis, side in enumerate(sides):
            steps = (2 * torch.arange(side, device=theta.device, dtype=theta.dtype) + 1) / side - 1
            slope = theta[:, i, num_axes - 1 - axis].reshape(-1, *ones)
            moved = slope * steps.reshape([*ones[:axis], side, *ones[axis + 1 :]])
            # The last axis completes the coordinate, the one sum of full size.
            places = torch.add(places, moved, out=grid[..., i] if axis == num_axes - 1 else None)
    return grid
