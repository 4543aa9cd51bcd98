import pytest
import torch
from tolerances import assert_close
from torch import nn

from mambavision_lab.layers.block import Block


def make_block(**options):
    """Make a block whose norms and biases have been moved from their initial values."""
    block = Block(6, nn.Linear(6, 6), mlp_ratio=3, **options)
    for module in (block.norm1, block.norm2):
        nn.init.normal_(module.weight, mean=1, std=0.2)
        nn.init.normal_(module.bias, std=0.2)
    return block


@pytest.mark.parametrize("layer_scale", [None, 0.3])
def test_block_matches_formula(layer_scale):
    block = make_block(layer_scale=layer_scale)
    x = torch.randn(2, 5, 6)
    gamma = 1 if layer_scale is None else layer_scale
    y = x + gamma * block.mixer(block.norm1(x))
    hidden = nn.functional.gelu(block.mlp.fc1(block.norm2(y)))
    assert hidden.shape == (2, 5, 18)
    assert_close(block(x), y + gamma * block.mlp.fc2(hidden), torch.float32)


def test_block_learns_layer_scale_per_channel_and_branch():
    block = make_block(layer_scale=1e-5)
    with torch.no_grad():
        block.gamma_1.zero_()
        block.gamma_2.copy_(torch.arange(6.0))
    x = torch.randn(2, 5, 6)
    assert_close(block(x), x + torch.arange(6.0) * block.mlp(block.norm2(x)), torch.float32)
    assert {"gamma_1", "gamma_2"} <= dict(block.named_parameters()).keys()
    assert not {"gamma_1", "gamma_2"} & dict(make_block().named_parameters()).keys()


def test_block_drops_whole_branches_of_samples_in_training_only():
    block = make_block(drop_path=0.5)
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)
    x = torch.randn(40, 5, 6)
    branch = block.mixer(block.norm1(x))
    y = block(x)
    is_kept = ((y - x).abs() > 1e-6).flatten(1).any(1)
    assert 8 < is_kept.sum() < 32
    # Samples that stay are scaled up, so that the mean over many trials is that of evaluation.
    assert_close(y, torch.where(is_kept[:, None, None], x + 2 * branch, x), torch.float32)
    assert_close(block.eval()(x), x + branch, torch.float32)


def test_block_drops_out_of_its_mlp_in_training_only():
    block, plain = make_block(drop=0.5), make_block()
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 5, 6)
    assert not torch.allclose(block(x), plain(x), atol=1e-3)
    assert torch.equal(block.eval()(x), plain.eval()(x))
