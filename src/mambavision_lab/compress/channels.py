"""Name what a channel is: for each layer that can be narrowed, which rows of which tensors go with it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.conv_block import ConvBlock
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.mlp import Mlp
from mambavision_lab.layers.stem import ConvStem

Rows = dict[tuple[str, int], Tensor]  # (tensor, axis) -> indices, (channels, rows of each)


@dataclass(frozen=True)
class Group:
    """The channels of one layer that are chosen from among each other.

    Attributes:
        layer: Name of the layer in the network.
        rows: What each channel is made of, and what reads it.
        makes: The tensor whose rows make the channels, for their magnitude.
        reads: The tensor whose columns read them.
        multiple: The layer's width stays a multiple of this.
        per_width: Channels of the group for each of the layer's width.
    """

    layer: str
    rows: Rows
    makes: str
    reads: str
    multiple: int
    per_width: int = 1

    @property
    def num_channels(self) -> int:
        """How many channels there are."""
        return len(next(iter(self.rows.values())))

    @property
    def width(self) -> int:
        """The layer's width, of which groups of one layer keep the same."""
        return self.num_channels // self.per_width

    @property
    def step(self) -> int:
        """By what the width changes, and the least that it can be."""
        return min(self.multiple, self.width)


def find_groups(net: nn.Module) -> list[Group]:
    """List the groups of a network, those of one layer behind each other."""
    return [group for name, layer in net.named_modules() for group in _groups_of(name, layer)]


def _groups_of(name: str, layer: nn.Module) -> Iterator[Group]:
    if isinstance(layer, Mlp):
        yield _plain(name, layer.fc1.out_features, ("fc1.weight", "fc1.bias"), ("fc2.weight",))
    elif isinstance(layer, ConvBlock):
        made = (*_norm("norm1"), "conv1.weight", "conv1.bias")
        yield _plain(name, layer.conv1.out_channels, made, ("conv2.weight",))
    elif isinstance(layer, ConvStem):
        stem_dim = layer.state_dict()["0.weight"].shape[0]
        for i in (0, 3, 6):  # convolution, BatchNorm, GELU; the last convolution makes the tokens
            count = layer.state_dict()[f"{i}.weight"].shape[0]
            made = (*_norm(f"{i + 1}"), f"{i}.weight")
            yield _plain(name, count, made, (f"{i + 3}.weight",), count // stem_dim)
    elif isinstance(layer, MambaVisionMixer):
        # Both halves keep as many channels: forward cuts in two equal parts.
        width, own = layer.D.numel(), torch.arange(layer.D.numel())[:, None]
        second = own + width
        per_channel = ("conv1d_x.weight", "dt_proj.weight", "dt_proj.bias", "A_log", "D")
        scanned: Rows = {(tensor, 0): own for tensor in per_channel}
        scanned |= {("in_proj.weight", 0): own, ("x_proj.weight", 1): own}
        scanned |= {("out_proj.weight", 1): own}
        yield Group(name, scanned, "in_proj.weight", "out_proj.weight", 8)
        convolved: Rows = {("in_proj.weight", 0): second, ("conv1d_z.weight", 0): own}
        convolved |= {("out_proj.weight", 1): second}
        yield Group(name, convolved, "in_proj.weight", "out_proj.weight", 8)
    elif isinstance(layer, Attention):
        heads, width = layer.num_heads, layer.head_dim
        read = torch.arange(heads * width).view(heads, width)
        query_key_value = torch.cat([read + i * heads * width for i in range(3)], dim=1)
        rows: Rows = {("qkv.weight", 0): query_key_value, ("proj.weight", 1): read}
        if layer.qkv.bias is not None:
            rows["qkv.bias", 0] = query_key_value
        yield Group(name, rows, "qkv.weight", "proj.weight", 1)


def _norm(name: str) -> tuple[str, ...]:
    """Name a BatchNorm's tensors: first its weight, which is the scale of the channels before it."""
    return tuple(f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))


def _plain(
    name: str, count: int, made: tuple[str, ...], read: tuple[str, ...], per_width: int = 1
) -> Group:
    """Make the group of channels that are one row of each tensor before and one column behind."""
    own = torch.arange(count)[:, None]
    rows = {(tensor, 0): own for tensor in made} | {(tensor, 1): own for tensor in read}
    return Group(name, rows, made[0], read[0], 8, per_width)
