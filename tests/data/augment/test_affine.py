import pytest
import torch
import torch.nn.functional as F

from mambavision_lab.data.augment.affine import move_affinely


@pytest.mark.parametrize("sides", [(5, 8), (1, 7), (4, 5, 8)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_images_move_as_torchs_grid_moves_them(sides, interpolation, padding):
    theta = torch.randn(3, len(sides), len(sides) + 1)
    images = torch.rand(3, 2, *sides)
    grid = F.affine_grid(theta, [3, 2, *sides], align_corners=False)
    expected = F.grid_sample(images, grid, interpolation, padding, align_corners=False)
    moved = move_affinely(images, theta, interpolation, padding)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)
