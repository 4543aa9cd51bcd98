"""The parts of the hierarchical family: its stem, the steps between stages, and a stage of blocks."""

from collections.abc import Sequence

import torch.fx
from torch import Tensor, nn

from mambavision_lab.layers.axes import BATCH_NORM, CONV, per_axis
from mambavision_lab.layers.checks import check_counts
from mambavision_lab.layers.scan_order import ScanOrder
from mambavision_lab.layers.window import cut_windows, fit_slices, join_windows
from mambavision_lab.models.backbone import run_blocks

# Stride of the stem -> strides of its two convolutions.
STEM_STRIDES = {4: (2, 2), 2: (1, 2), 1: (1, 1)}
# torch.fx cannot follow control flow that depends on a size; it takes these as they are.
for _name in ("fit_window", "cut_windows", "join_windows"):
    torch.fx.wrap(_name)


class PatchEmbed(nn.Module):
    """The stem: two convolutions of width 3, each with BatchNorm and ReLU, to a map of the first stage.

    Raises:
        ValueError: The stride is not 4, 2 or 1, or another size is no whole number above 0.
    """

    def __init__(
        self, in_chans: int, in_dim: int, dim: int, stride: int | Sequence[int], dims: int = 2
    ) -> None:
        super().__init__()
        check_counts(in_chans=in_chans, in_dim=in_dim, dim=dim)
        strides = per_axis("stem_stride", stride, dims)
        if any(each not in STEM_STRIDES for each in strides):
            raise ValueError(
                f"stem_stride={stride} is not possible; choose one of {tuple(STEM_STRIDES)}"
            )
        first, second = zip(*(STEM_STRIDES[each] for each in strides), strict=True)
        self.conv_down = nn.Sequential(
            CONV[dims](in_chans, in_dim, 3, first, padding=1, bias=False),
            BATCH_NORM[dims](in_dim, eps=1e-4),
            nn.ReLU(),
            CONV[dims](in_dim, dim, 3, second, padding=1, bias=False),
            BATCH_NORM[dims](dim, eps=1e-4),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (N, in_chans, *sides) into a map (N, dim, *sides / stride), rounded up."""
        return self.conv_down(x)


class Downsample(nn.Module):
    """Halve a map's sides and double its channels with one convolution of width 3."""

    def __init__(self, dim: int, dims: int = 2) -> None:
        super().__init__()
        self.reduction = nn.Sequential(CONV[dims](dim, 2 * dim, 3, 2, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Turn a map (N, dim, *sides) into (N, 2 dim, *sides / 2), rounded up."""
        return self.reduction(x)


class Stage(nn.Module):
    """A stack of blocks on one map; `downsample`, which leads to the next stage, is called apart.

    With a window_size the blocks see sequences of tokens, one for each window; padding is cut off at
    the stage's end and takes part in mixing until then.
    """

    def __init__(
        self,
        blocks: list[nn.Module],
        *,
        width: int,
        window_size: int | None,
        clamp_windows: bool,
        is_last: bool,
        use_checkpointing: bool,
        dims: int = 2,
        window_slices: int | None = None,
        scan_order: ScanOrder = "plain",
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = nn.Identity() if is_last else Downsample(width, dims)
        self.window_size = window_size
        self.window_slices = window_size if window_slices is None else window_slices
        self.clamp_windows = clamp_windows
        self.scan_order = scan_order
        self.use_checkpointing = use_checkpointing

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map x, (N, width, H, W) or (N, width, D, H, W); the shape stays."""
        if self.window_size is None or self.window_slices is None:
            return run_blocks(self.blocks, x, self.use_checkpointing)
        sides = x.shape[2:]
        window = fit_window(self.window_size, sides, self.clamp_windows, self.window_slices)
        tokens = cut_windows(x, window, self.scan_order)
        tokens = run_blocks(self.blocks, tokens, self.use_checkpointing)
        return join_windows(tokens, window, sides, self.scan_order)


def fit_window(
    size: int, sides: Sequence[int], is_clamped: bool, window_slices: int
) -> tuple[int, ...]:
    """Return the sides of a window on a map with these sides in tokens: rows, columns; before them slices."""
    slices = [fit_slices(window_slices, num) for num in sides[:-2]]
    return (*slices, *(min(size, side) if is_clamped else size for side in sides[-2:]))
