import pytest
import torch
from tolerances import assert_close
from torch import nn

from mambavision_lab.layers.depthwise import DepthwiseConv1d


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("d_conv", [1, 2, 3, 4, 5])
def test_depthwise_conv_matches_conv1d(d_conv, length):
    ours = DepthwiseConv1d(6, d_conv).double()
    theirs = nn.Conv1d(6, 6, d_conv, padding="same", groups=6, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    # The first half of a wider tensor, as the mixer hands it over.
    x = torch.randn(3, length, 12, dtype=torch.float64, requires_grad=True)
    y, expected = ours(x[..., :6]), theirs(x[..., :6].mT).mT
    assert_close(y, expected, torch.float64)
    grad_y = torch.randn_like(y)
    actual_grads = torch.autograd.grad(y, [x, ours.weight], grad_y)
    expected_grads = torch.autograd.grad(expected, [x, theirs.weight], grad_y)
    for actual_grad, expected_grad in zip(actual_grads, expected_grads, strict=True):
        assert_close(actual_grad, expected_grad, torch.float64)
