"""The convolutional stem of the plain family: from an image to tokens.

Source: Xiao et al. 2021, arXiv:2106.14881 (a few small convolutions train better than one large
patch projection). Ours always has four, so that the weights do not depend on the patch size.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mambavision_lab.layers.axes import BATCH_NORM, CONV, check_dims, per_axis
from mambavision_lab.layers.checks import check_counts

# Patch size -> strides of the four convolutions; the halvings are spread as evenly as they can be.
STRIDES = {1: (1, 1, 1, 1), 2: (1, 1, 1, 2), 4: (1, 2, 1, 2), 8: (1, 2, 2, 2), 16: (2, 2, 2, 2)}
PATCH_SIZES = tuple(sorted(STRIDES, reverse=True))


class ConvStem(nn.Sequential):
    """Four convolutions of width 3, of stem_dim, stem_dim, 2 stem_dim and embed_dim.

    Each but the last is followed by BatchNorm and GELU. (Normalising each sample instead made the
    network learn several times more slowly.)

    Args:
        in_chans: Channels of the image.
        stem_dim: Channels after the first convolution.
        embed_dim: Channels of the tokens.
        patch_size: Pixels per token along each side: 1, 2, 4, 8 or 16; or one such number for each axis.
        dims: Spatial axes of the image.

    Raises:
        ValueError: patch_size is not one of those, or another is no whole number above 0.
    """

    def __init__(
        self,
        in_chans: int,
        stem_dim: int,
        embed_dim: int,
        patch_size: int | Sequence[int],
        dims: int = 2,
    ) -> None:
        check_dims(dims)
        check_counts(in_chans=in_chans, stem_dim=stem_dim, embed_dim=embed_dim)
        sizes = per_axis("patch_size", patch_size, dims)
        if any(size not in STRIDES for size in sizes):
            raise ValueError(
                f"patch_size={patch_size} is not possible; choose one of {PATCH_SIZES}"
            )
        widths = [in_chans, stem_dim, stem_dim, 2 * stem_dim, embed_dim]
        layers: list[nn.Module] = []
        for i, stride in enumerate(zip(*(STRIDES[size] for size in sizes), strict=True)):
            is_last = i == 3
            conv = CONV[dims](widths[i], widths[i + 1], 3, stride, padding=1, bias=is_last)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")
            layers.append(conv)
            if not is_last:
                layers += [BATCH_NORM[dims](widths[i + 1]), nn.GELU()]
        super().__init__(*layers)
        self.in_chans, self.embed_dim, self.patch_size, self.dims = in_chans, embed_dim, sizes, dims

    def resize(self, stem_dim: int) -> None:
        """Make fresh layers for another stem_dim."""
        made = ConvStem(self.in_chans, stem_dim, self.embed_dim, self.patch_size, self.dims)
        for i, layer in enumerate(made):
            self[i] = layer

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (N, C, *sides) into a map (N, embed_dim, *sides / patch_size)."""
        return super().forward(x)
