"""Find the layer whose features class activation maps are made of, and turn it into a map (N, C, *sides)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers.base import in_batches, without_slabs
from mambavision_lab.layers.position import token_grid
from mambavision_lab.models.plain import PlainMambaVision


@dataclass(frozen=True)
class FeatureLayer:
    """A layer whose output has a place for each part of the image.

    Attributes:
        name: Of the module.
        to_map: Turns its output, tokens or a map of either layout, into (N, C, *sides).
    """

    name: str
    to_map: Callable[[Tensor], Tensor]


def find_feature_layer(net: nn.Module, image: Tensor) -> FeatureLayer:
    """Find the last layer with a map, by the `feature_info` of our networks and timm's.

    Of a network that classifies its class token it is the first norm of the last block: beyond, the other
    tokens have no influence.

    Raises:
        ConfigError: There is none.
    """
    return feature_layers(net, image)[-1]


def feature_layers(net: nn.Module, image: Tensor) -> list[FeatureLayer]:
    """Find all layers with a map, in the network's order.

    Raises:
        ConfigError: There are none.
    """
    anything: Any = net
    info = getattr(net, "feature_info", None) or []
    modules = dict(net.named_modules())
    found = [(i["module"], i["num_chs"], i["reduction"]) for i in info if i["module"] in modules]
    if not found:
        raise ConfigError(
            f"{type(net).__name__} does not say which of its layers have maps (feature_info); "
            "choose input_x_gradient or integrated_gradients"
        )
    if getattr(net, "global_pool", "") == "token" and hasattr(net, "blocks"):
        _, num_chs, reduction = found[-1]
        found[-1] = (f"blocks.{len(anything.blocks) - 1}.norm1", num_chs, reduction)
    return [
        FeatureLayer(name, _to_map(net, num_chs, image, reduction))
        for name, num_chs, reduction in found
    ]


@torch.no_grad()
def feature_maps(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the map (N, C, *sides) of each layer with one, by its name, for images (N, C, *sides)."""
    layers = feature_layers(net, images)
    maps: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    modules = dict(net.named_modules())

    def keep(layer: FeatureLayer) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            maps[layer.name].append(layer.to_map(output).detach())

        return hook

    hooks = [modules[layer.name].register_forward_hook(keep(layer)) for layer in layers]
    try:
        with without_slabs(net):
            for batch in in_batches(images):
                net.forward(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in maps.items() if parts}


def _to_map(
    net: nn.Module, num_chs: int, image: Tensor, reduction: int
) -> Callable[[Tensor], Tensor]:
    if isinstance(net, PlainMambaVision):
        grid = token_grid(image.shape[2:], net.patch)
        return partial(net.map_of_sequences, grid=grid)
    rows, columns = (-(-side // reduction) for side in image.shape[-2:])
    num_prefix = getattr(net, "num_prefix_tokens", 0)

    def convert(x: Tensor) -> Tensor:
        if x.ndim == 3 and x.shape[1] == num_prefix + rows * columns:
            return x[:, num_prefix:].transpose(1, 2).unflatten(2, (rows, columns))
        if x.ndim == image.ndim and x.shape[1] == num_chs:
            return x
        if x.ndim == 4 and x.shape[3] == num_chs:
            return x.permute(0, 3, 1, 2)
        raise ConfigError(
            f"a layer gives {tuple(x.shape)}, which is no map of {num_chs} channels; "
            "choose input_x_gradient or integrated_gradients"
        )

    return convert
