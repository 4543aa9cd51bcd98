import pytest
import torch
from torch import nn

from mambavision_lab.layers.axes import CONV

PLAIN = {2: nn.Conv2d, 3: nn.Conv3d}


@pytest.mark.parametrize("is_autocast", [True, False], ids=["mixed", "true"])
@pytest.mark.parametrize(
    ("in_chans", "sides", "stride"),
    [
        (32, (2, 4, 4), 1),
        (32, (3, 4, 4), 1),
        (1, (1, 8, 8), 1),
        (32, (4, 1, 1), 2),
        (96, (1, 1), 2),
        (32, (4, 1), 2),
        (32, (8, 8), 2),
    ],
)
def test_convolution_in_bfloat16_is_that_of_float32_however_small_the_map(
    in_chans, sides, stride, is_autocast
):
    torch.manual_seed(0)
    dims = len(sides)
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    conv = CONV[dims](in_chans, 32, 3, stride, padding=1).to(memory_format=layout)
    plain = PLAIN[dims](in_chans, 32, 3, stride, padding=1)
    plain.load_state_dict(conv.state_dict())
    inputs = torch.randn(4, in_chans, *sides)
    expected = plain(inputs)
    expected.square().sum().backward()
    inputs = inputs.to(memory_format=layout)
    if not is_autocast:
        conv, inputs = conv.bfloat16(), inputs.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        outputs = conv(inputs)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), expected, atol=0.03, rtol=0.02)
    spread = plain.weight.grad.abs().max().item()
    for _ in range(3):  # what the memory held before differs from time to time
        conv.zero_grad()
        outputs.float().square().sum().backward(retain_graph=True)
        torch.testing.assert_close(
            conv.weight.grad.float(), plain.weight.grad, atol=0.02 * spread, rtol=0.02
        )


def test_graph_of_a_convolution_depends_on_no_side():
    conv = CONV[2](3, 4, 3, padding=1)
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    graph = torch.export.export(conv, (torch.rand(2, 3, 9, 9),), dynamic_shapes={"input": free})
    narrow = torch.rand(2, 3, 2, 7)
    torch.testing.assert_close(graph.module()(narrow), conv(narrow))
