"""Rollout through attention, weighed by what each token holds for the class: gradient x features.

Rollout tells how much of each token reaches the output, whatever the class; gradient x features, where the
blocks begin, how strongly what a token holds acts on the class, whatever the way. The map is their product.
Mamba blocks are passed over unless the network has no others: a scan spreads what it takes over many tokens,
and the product with its rollout points at objects less often (docs/explain.md).
"""

from typing import Any

import torch
from torch import Tensor, nn

from mambavision_lab.explainers import rollout
from mambavision_lab.explainers.base import Explanation, require_finite, to_image
from mambavision_lab.explainers.calls import require_layout
from mambavision_lab.explainers.subject import Subject


def explain(subject: Subject) -> Explanation:
    """Map rollout through the attention blocks, times |gradient x features| before the first block.

    Raises:
        ConfigError: The network has neither kind of block, or values are not finite.
    """
    net, image = subject.net, subject.image
    calls = subject.blocks("grad_rollout")
    followed = subject.record.attention or calls
    reached = rollout.follow(net, followed, image)[followed[0].name]
    first = calls[0]
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        kept.append(inputs[0])

    name = first.name.rpartition(".")[0]  # the block, whose input goes past its norm as well
    hook = net.get_submodule(name).register_forward_pre_hook(keep)
    try:
        with torch.enable_grad():
            score = net.forward(image.detach().requires_grad_())[0, subject.target]
            (grad,) = torch.autograd.grad(score, kept[:1])
    finally:
        hook.remove()
    held = (grad * kept[0].detach()).norm(dim=-1)
    grid = require_layout(first).to_grid(require_finite(held, f"the gradient at {name}"))
    source = f"rollout to {followed[0].name} times |gradient x features| at {name}"
    return Explanation(reached * to_image(grid, image), source)
