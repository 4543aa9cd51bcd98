"""The decoder of a U-Net for maps of any resolutions and number of axes.

Source: Ronneberger et al. 2015, arXiv:1505.04597. We differ: GroupNorm, which serves batches of one; maps are
enlarged by interpolation; and the finest level is a convolution of the image itself, so that borders are as
sharp as its pixels whatever the stride of the encoder.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.layers.axes import CONV

_MODES = {2: "bilinear", 3: "trilinear"}
_MOST_TIMES = 8  # channels of the coarsest maps, as a multiple of the finest


class UNetDecoder(nn.Module):
    """Join maps, coarsest first, each enlarged to the next finer one, up to the image.

    Args:
        in_chans: Channels of the image.
        widths: Channels of the maps, finest first.
        num_classes: Channels of the result.
        dim: Channels at the image's resolution.
        dims: Spatial axes.
        drop_rate: Dropout of whole channels before the last convolution.
    """

    def __init__(
        self,
        in_chans: int,
        widths: Sequence[int],
        num_classes: int,
        dim: int,
        dims: int = 2,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        own = [dim * min(2**level, _MOST_TIMES) for level in range(len(widths) + 1)]
        self.mode = _MODES[dims]
        self.stem = _block(in_chans, own[0], dims)
        self.blocks = nn.ModuleList()  # coarsest first
        below = widths[-1]
        for level in reversed(range(len(widths))):
            skip = widths[level - 1] if level else own[0]
            self.blocks.append(_block(below + skip, own[level], dims))
            below = own[level]
        dropout = nn.Dropout2d if dims == 2 else nn.Dropout3d
        self.drop = dropout(drop_rate)
        self.head = CONV[dims](own[0], num_classes, 1)

    def forward(self, image: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return logits (N, num_classes, H, W) for an image (N, C, H, W) and its maps, finest first."""
        *skips, x = [self.stem(image), *maps]
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            if x.shape[2:] != skip.shape[2:]:
                x = F.interpolate(x, skip.shape[2:], mode=self.mode, align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        return self.head(self.drop(x))


def _block(in_dim: int, out_dim: int, dims: int) -> nn.Sequential:
    """Make two convolutions of width 3, each with GroupNorm of eight channels a group, and GELU."""
    layers: list[nn.Module] = []
    for source in (in_dim, out_dim):
        groups = max(1, out_dim // 8) if out_dim % 8 == 0 else 1
        layers += [
            CONV[dims](source, out_dim, 3, padding=1, bias=False),
            nn.GroupNorm(groups, out_dim),
            nn.GELU(),
        ]
    return nn.Sequential(*layers)
