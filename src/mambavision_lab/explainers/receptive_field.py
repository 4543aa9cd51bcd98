"""The effective receptive field: how far the pixels lie that the central place of the features depends on.

Source: Luo et al. 2016, arXiv:1701.04128: the gradient of the central place of the last map, all channels
summed, with respect to the image; absolute, the mean over images.
"""

import torch
from torch import Tensor, nn

from mambavision_lab.explainers.features import find_feature_layer


def receptive_field(net: nn.Module, images: Tensor) -> Tensor:
    """Return the mean |gradient| of each pixel, (H, W), for images (N, C, H, W)."""
    layer = find_feature_layer(net, images)
    kept: list[Tensor] = []
    hook = net.get_submodule(layer.name).register_forward_hook(
        lambda module, inputs, output: kept.append(layer.to_map(output))
    )
    x = images.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            net.forward(x)
            rows, columns = kept[0].shape[-2:]
            centre = kept[0][..., rows // 2, columns // 2].sum()
            (grad,) = torch.autograd.grad(centre, x)
    finally:
        hook.remove()
    return grad.abs().sum(dim=1).mean(dim=0)
