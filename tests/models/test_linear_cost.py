"""Networks of Mamba blocks alone cost a constant amount per token, from the image to the logits."""

import pytest
import torch
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.macs import count_macs
from mambavision_lab.models.plain import PlainMambaVision


def make_plain(**options):
    return PlainMambaVision(**{**TOY_OPTIONS, "in_chans": 3, **options})


def make_hierarchical(**options):
    return MambaVision(**HIERARCHICAL_TOY, **options)


def all_macs(net, image_size):
    return sum(count_macs(net, image_size))


def saved_elements(net, image_size):
    """Elements that autograd keeps for the backward pass, weights aside."""
    weights = {parameter.data_ptr() for parameter in net.parameters()}
    kept = {}

    def keep(x):
        if x.data_ptr() not in weights:
            kept[x.data_ptr()] = max(x.numel(), kept.get(x.data_ptr(), 0))
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = net.train()(torch.randn(1, 3, image_size, image_size)).sum()
    del loss
    return sum(kept.values())


def slopes(cost, net, sizes):
    """Growth per pixel between image sizes."""
    costs = [cost(net, size) for size in sizes]
    pixels = [size * size for size in sizes]
    steps = zip(
        zip(costs, pixels, strict=True), zip(costs[1:], pixels[1:], strict=True), strict=False
    )
    return [(b[0] - a[0]) / (b[1] - a[1]) for a, b in steps]


# Multiples of every window, and of the chunks in which the scan keeps its states.
@pytest.mark.parametrize("cost", [all_macs, saved_elements])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("make_net", "sizes"), [(make_plain, (64, 128, 256)), (make_hierarchical, (256, 512, 768))]
)
def test_net_of_mamba_blocks_is_linear_in_the_tokens(make_net, sizes, bidirectional, cost):
    net = make_net(mamba_ratio=1, bidirectional=bidirectional)
    first, second = slopes(cost, net, sizes)
    assert first == second > 0


def test_net_with_attention_is_not_linear():
    first, second = slopes(all_macs, make_plain(mamba_ratio=0.5), (64, 128, 256))
    assert second > 1.5 * first
