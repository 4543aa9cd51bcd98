"""The effective receptive field: how far the pixels lie that the central place of the features depends on.

Source: Luo et al. 2016, arXiv:1701.04128: the gradient of the central place of the last map, all channels
summed, with respect to the image; absolute, the mean over images.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mambavision_lab.explainers.base import in_batches
from mambavision_lab.explainers.features import find_feature_layer


def receptive_field(net: nn.Module, images: Tensor) -> Tensor:
    """Return the mean |gradient| of each pixel, (*sides), for images or volumes (N, C, *sides)."""
    layer = find_feature_layer(net, images)
    kept: list[Tensor] = []
    hook = net.get_submodule(layer.name).register_forward_hook(
        lambda module, inputs, output: kept.append(layer.to_map(output))
    )
    fields = []
    try:
        for batch in in_batches(images):
            x = batch.detach().clone().requires_grad_()
            with torch.enable_grad():
                net.forward(x)
                features = kept.pop()
                centre: Any = (..., *(side // 2 for side in features.shape[2:]))
                (grad,) = torch.autograd.grad(features[centre].sum(), x)
            fields.append(grad.abs().sum(dim=1))
    finally:
        hook.remove()
    return torch.cat(fields).mean(dim=0)
