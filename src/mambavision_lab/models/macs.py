"""Count a network's multiply-accumulates (MACs)."""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula

from mambavision_lab.ops.selective_scan import selective_scan  # noqa: F401  (makes its operators)

# Operators that run the scan's recurrence; all take u, delta, A, B and C first.
_SCANS = ("selective_scan", "selective_scan_train", "scan_inference", "scan_forward")
_ATTENTION = ("bmm", "baddbmm", "attention")


class Macs(NamedTuple):
    """MACs of one image.

    Attributes:
        layers: Convolutions, linear layers and the scan's recurrence. Normalisation, activations,
            pooling and biases are left out, as is usual.
        attention: The two products of attention, of queries with keys and of weights with values.
            The paper's figures agree with ours without them.
    """

    layers: int
    attention: int


def count_macs(net: nn.Module, image_size: int, in_chans: int = 3) -> Macs:
    """Count what one image takes; on the meta device nothing is computed for that.

    Args:
        net: Maps images (N, C, H, W) to logits.
        image_size: Pixels per side.
        in_chans: Channels.
    """
    for name in _SCANS:
        operator = getattr(torch.ops.mambavision_lab, name, None)
        if operator is not None and operator not in flop_registry:
            register_flop_formula(operator)(scan_flops)
    image = torch.zeros(1, in_chans, image_size, image_size, device=next(net.parameters()).device)
    was_training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(image)
    net.train(was_training)
    counts = counter.get_flop_counts()["Global"]
    attention = sum(
        flops for operator, flops in counts.items() if str(operator).endswith(_ATTENTION)
    )
    return Macs((sum(counts.values()) - attention) // 2, attention // 2)


def scan_flops(
    u: Any, delta: Any, A: Any, *rest: Any, out_shape: Any = None, **options: Any
) -> int:
    """Additions and multiplications of a scan, from the shapes of its inputs.

    Each step and channel takes one for delta u and, for each state, six: delta A; delta u times B;
    decay times state, plus that; C times state, and its sum. The exponential is not counted.
    """
    batch, length, dim = u
    return batch * length * dim * (6 * A[1] + 1)
