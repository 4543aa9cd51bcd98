"""Count a network's multiply-accumulates (MACs), with torch's flop counter.

Importing this teaches the counter two operators: the scan, and attention as CPUs run it.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula, sdpa_flop_count

from mambavision_lab.ops.selective_scan import flops  # noqa: F401  (registers the scan's formula)

_ATTENTION = ("bmm", "baddbmm", "attention", "attention_for_cpu")


@register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu)
def _cpu_attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


class Macs(NamedTuple):
    """MACs of one image.

    Attributes:
        layers: Convolutions, linear layers and the scan's recurrence. Normalisation, activations,
            pooling and biases are left out, as is usual.
        attention: The two products of attention, of queries with keys and of weights with values.
            The paper's numbers agree with ours without them.
    """

    layers: int
    attention: int


def count_macs(net: nn.Module, image_size: int, in_chans: int = 3) -> Macs:
    """Count the MACs of one image; on the meta device nothing is computed for that.

    Args:
        net: Maps images (N, C, H, W) to logits.
        image_size: Pixels per side.
        in_chans: Channels.
    """
    image = torch.zeros(1, in_chans, image_size, image_size, device=next(net.parameters()).device)
    was_training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(image)
    net.train(was_training)
    counts = counter.get_flop_counts()["Global"]
    attention = sum(
        count for operator, count in counts.items() if str(operator).endswith(_ATTENTION)
    )
    return Macs((sum(counts.values()) - attention) // 2, attention // 2)
