import pytest
import torch
from torch import nn

from mambavision_lab.layers.axes import CONV


@pytest.mark.parametrize("is_autocast", [True, False], ids=["mixed", "true"])
@pytest.mark.parametrize("num_slices", [1, 2, 3])
def test_gradient_in_bfloat16_is_that_of_float32_however_few_slices(num_slices, is_autocast):
    torch.manual_seed(0)
    conv = CONV[3](32, 16, 3, padding=1)
    plain = nn.Conv3d(32, 16, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    volumes = torch.randn(4, 32, num_slices, 4, 4)
    expected = plain(volumes)
    expected.square().sum().backward()
    if not is_autocast:
        conv, volumes = conv.bfloat16(), volumes.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        outputs = conv(volumes)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), expected, atol=0.02, rtol=0.02)
    for _ in range(3):  # what the memory held before differs from time to time
        conv.zero_grad()
        outputs.float().square().sum().backward(retain_graph=True)
        spread = plain.weight.grad.abs().max().item()
        torch.testing.assert_close(
            conv.weight.grad.float(), plain.weight.grad, atol=0.02 * spread, rtol=0.02
        )
