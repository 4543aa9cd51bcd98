import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close

from mambavision_lab.layers.conv_block import ConvBlock


@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_conv_block_matches_formula(layer_scale):
    block = ConvBlock(4, layer_scale=layer_scale).eval()
    x = torch.randn(2, 4, 5, 6)
    scale = (1 + 1e-5) ** -0.5  # a fresh BatchNorm in evaluation mode
    y = F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1) * scale
    y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
    y = F.conv2d(y, block.conv2.weight, block.conv2.bias, padding=1) * scale
    assert_close(block(x), x + (layer_scale or 1) * y, torch.float32)


def test_conv_block_skips_its_branch_in_training_only():
    block = ConvBlock(4, drop_path=0.9)
    x = torch.randn(64, 4, 2, 2)
    skipped = (block(x) == x).flatten(1).all(1)
    assert 40 < skipped.sum() < 64
    assert not (block.eval()(x) == x).flatten(1).all(1).any()
