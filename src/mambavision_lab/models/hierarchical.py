"""The hierarchical family: the paper's networks, weight-compatible with the published checkpoints.

Four stages at strides 4, 8, 16 and 32; the first two convolutional, the others of Mamba and attention
blocks inside square windows. Source: Hatamizadeh and Kautz 2024, arXiv:2407.08083; written from the
paper and from the names and shapes of the published weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.fx
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.block import Block
from mambavision_lab.layers.checks import check_counts, check_rates
from mambavision_lab.layers.conv_block import ConvBlock
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.window import cut_windows, join_windows
from mambavision_lab.models.backbone import Backbone, Init, run_blocks
from mambavision_lab.models.pattern import Pattern, mamba_blocks
from mambavision_lab.models.pretrained import load_pretrained

# Stride of the stem -> strides of its two convolutions.
STEM_STRIDES = {4: (2, 2), 2: (1, 2), 1: (1, 1)}
# torch.fx cannot follow control flow that depends on a size; it takes these as they are.
for _name in ("check_image_size", "fit_window", "cut_windows", "join_windows"):
    torch.fx.wrap(_name)
_WITH_LAST = (r"^norm", (99999,))  # timm's mark for: in one group with what comes before


class MambaVision(Backbone):
    """Classify images with two convolutional stages and two of Mamba and attention blocks.

    Images may have any height and width. The defaults of all but the sizes are the published network.

    Args:
        dim: Channels of the first stage; each stage doubles them.
        in_dim: Channels after the stem's first convolution.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage; those of the first two are unused.
        window_size: Tokens per side of a window in each stage; those of the first two are unused.
        mlp_ratio: Hidden width of the MLPs as a multiple of their stage's width.
        num_classes: Outputs of the head; 0 leaves the head out.
        in_chans: Channels of the images.
        layer_scale: Initial value of a learned factor per channel in the Mamba and attention blocks,
            or None for none.
        layer_scale_conv: The same in the convolutional blocks.
        drop_rate: Dropout before the head and in the MLPs and attention outputs.
        attn_drop_rate: Dropout of the attention weights.
        drop_path_rate: Stochastic depth of the last block; rises linearly from 0 over all blocks.
        qkv_bias: Whether the attention's input projection has a bias.
        d_state: State size of the scan.
        d_conv: Kernel of the mixer's convolutions, in tokens.
        expand: Inner width of the mixer as a multiple of the width.
        mamba_ratio: Share of the blocks that mix with Mamba, one for both later stages or one for
            each; None is half of them, rounded up.
        pattern: "mamba_first" or "alternating", one for both later stages or one for each.
        stem_stride: Pixels per side of a token of the first stage: 4, or 2 or 1 for small images.
        clamp_windows: Shrink windows to the map where that is smaller, instead of padding the map.
        bidirectional: Scan from the last token to the first as well, with the same weights.
        widths: Layers whose width is another, by name, as those of a pruned network: `set_widths`.
        init: "mamba" keeps Mamba's initial step sizes; "published" overwrites them as the published
            training code does.
        use_checkpointing: Recompute each block in the backward pass to save memory.
        scan_backend: "auto" or a backend of `selective_scan`.
        pretrained: Weights to start from: a file, a folder or a hub id such as
            "nvidia/MambaVision-T-1K"; None for fresh ones.
        pretrained_key: Where in that file they lie, such as "model_ema"; None where one place alone fits.

    Raises:
        ValueError: A size does not fit another; the message names both.
        ConfigError: The pretrained weights cannot be had or do not fit.
    """

    def __init__(
        self,
        *,
        dim: int,
        in_dim: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_size: Sequence[int],
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        layer_scale: float | None = None,
        layer_scale_conv: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        d_state: int = 8,
        d_conv: int = 3,
        expand: float = 1,
        mamba_ratio: float | Sequence[float] | None = None,
        pattern: Pattern | Sequence[Pattern] = "mamba_first",
        stem_stride: int = 4,
        clamp_windows: bool = False,
        bidirectional: bool = False,
        widths: Mapping[str, int] | None = None,
        init: Init = "mamba",
        use_checkpointing: bool = False,
        scan_backend: str = "auto",
        pretrained: str | None = None,
        pretrained_key: str | None = None,
    ) -> None:
        super().__init__()
        for name, sizes in (
            ("depths", depths),
            ("num_heads", num_heads),
            ("window_size", window_size),
        ):
            if not isinstance(sizes, Sequence) or len(sizes) != 4:
                raise ValueError(f"{name}={sizes} must have one value for each of 4 stages")
        check_counts(dim=dim, num_heads=num_heads, window_size=window_size)
        check_counts(minimum=0, depths=depths, num_classes=num_classes)
        check_rates(
            drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = 8 * dim
        self.stem_stride = stem_stride
        self.patch_embed = PatchEmbed(in_chans, in_dim, dim, stem_stride)
        ratios, patterns = _for_each_stage(mamba_ratio), _for_each_stage(pattern)
        rates = [drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        self.levels = nn.ModuleList()
        for i, depth in enumerate(depths):
            width = dim * 2**i
            start = sum(depths[:i])
            blocks: list[nn.Module] = []
            if i < 2:
                for rate in rates[start : start + depth]:
                    blocks.append(ConvBlock(width, drop_path=rate, layer_scale=layer_scale_conv))
            else:
                kinds = mamba_blocks(depth, ratios[i - 2], patterns[i - 2])
                for is_mamba, rate in zip(kinds, rates[start:], strict=False):
                    mixer: nn.Module
                    if is_mamba:
                        mixer = MambaVisionMixer(
                            width,
                            d_state=d_state,
                            d_conv=d_conv,
                            expand=expand,
                            bidirectional=bidirectional,
                            scan_backend=scan_backend,
                        )
                    else:
                        mixer = Attention(
                            width,
                            num_heads=num_heads[i],
                            qkv_bias=qkv_bias,
                            attn_drop=attn_drop_rate,
                            proj_drop=drop_rate,
                        )
                    blocks.append(
                        Block(
                            width,
                            mixer,
                            mlp_ratio=mlp_ratio,
                            drop=drop_rate,
                            drop_path=rate,
                            layer_scale=layer_scale,
                        )
                    )
            window = window_size[i] if i >= 2 else None
            self.levels.append(
                Stage(
                    blocks,
                    width=width,
                    window_size=window,
                    clamp_windows=clamp_windows,
                    is_last=i == 3,
                    use_checkpointing=use_checkpointing,
                )
            )
        self.norm = nn.BatchNorm2d(self.num_features, eps=1e-5)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.feature_info = [
            {"num_chs": dim * 2**i, "reduction": stem_stride * 2**i, "module": f"levels.{i}"}
            for i in range(4)
        ]
        self.set_widths(widths)
        self.init_weights(init)
        if pretrained is not None:
            load_pretrained(self, pretrained, pretrained_key)

    def forward_stages(self, x: Tensor, indices: Sequence[int] | None = None) -> list[Tensor]:
        """Return the maps (N, C, H, W) that stages give for images (N, C, H, W), before down-sampling.

        Args:
            x: Images.
            indices: Which stages' maps, in ascending order; None is all.

        Raises:
            ConfigError: The images are smaller than one token of the first stage.
        """
        check_image_size(x.shape[-2], x.shape[-1], self.stem_stride)
        wanted = range(len(self.levels)) if indices is None else indices
        x = self.patch_embed(x)
        maps = []
        for i, level in enumerate(self.levels):
            x = level(x)
            if i in wanted:
                maps.append(x)
            if i == max(wanted):
                break
            x = level.downsample(x)  # type: ignore[operator]
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the normalised last map (N, num_features, H, W) for images (N, C, H, W).

        Raises:
            ConfigError: The images are smaller than one token of the first stage.
        """
        return self.norm(self.forward_stages(x, [len(self.levels) - 1])[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool a map (N, num_features, H, W) and classify; pre_logits stops before the classifier."""
        x = self.head_drop(x.mean(dim=(2, 3)) if self.global_pool else x)
        return x if pre_logits else self.head(x)

    def norm_map(self, x: Tensor) -> Tensor:
        """Apply the final norm to the last map (N, num_features, H, W)."""
        return self.norm(x)

    def features_of_map(self, x: Tensor) -> Tensor:
        """Turn the last map into what `forward_features` returns."""
        return self.norm(x)

    def stages(self) -> nn.ModuleList:
        """Return the four stages."""
        return self.levels

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of parameter names by depth: a layer for each block, or if coarse each stage."""
        if coarse:
            return {"stem": r"^patch_embed", "blocks": [(r"^levels\.(\d+)", None), _WITH_LAST]}
        blocks = (r"^levels\.(\d+)\.blocks\.(\d+)", None)
        downsample = (r"^levels\.(\d+)\.downsample", (99999,))
        return {"stem": r"^patch_embed", "blocks": [blocks, downsample, _WITH_LAST]}


class PatchEmbed(nn.Module):
    """The stem: two 3x3 convolutions, each with BatchNorm and ReLU, to a map of the first stage.

    Raises:
        ValueError: The stride is not 4, 2 or 1, or another size is no whole number above 0.
    """

    def __init__(self, in_chans: int, in_dim: int, dim: int, stride: int) -> None:
        super().__init__()
        check_counts(in_chans=in_chans, in_dim=in_dim, dim=dim)
        if stride not in STEM_STRIDES:
            raise ValueError(
                f"stem_stride={stride} is not possible; choose one of {tuple(STEM_STRIDES)}"
            )
        first, second = STEM_STRIDES[stride]
        self.conv_down = nn.Sequential(
            nn.Conv2d(in_chans, in_dim, 3, first, padding=1, bias=False),
            nn.BatchNorm2d(in_dim, eps=1e-4),
            nn.ReLU(),
            nn.Conv2d(in_dim, dim, 3, second, padding=1, bias=False),
            nn.BatchNorm2d(dim, eps=1e-4),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn images (N, in_chans, H, W) into a map (N, dim, H / stride, W / stride), rounded up."""
        return self.conv_down(x)


class Downsample(nn.Module):
    """Halve a map's sides and double its channels with one 3x3 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Sequential(nn.Conv2d(dim, 2 * dim, 3, 2, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Turn a map (N, dim, H, W) into (N, 2 dim, H / 2, W / 2), rounded up."""
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
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = nn.Identity() if is_last else Downsample(width)
        self.window_size = window_size
        self.clamp_windows = clamp_windows
        self.use_checkpointing = use_checkpointing

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map x, (N, width, H, W); the shape stays."""
        if self.window_size is None:
            return run_blocks(self.blocks, x, self.use_checkpointing)
        height, width = x.shape[-2], x.shape[-1]
        window = fit_window(self.window_size, height, width, self.clamp_windows)
        tokens = run_blocks(self.blocks, cut_windows(x, window), self.use_checkpointing)
        return join_windows(tokens, window, height, width)


def check_image_size(height: int, width: int, stem_stride: int) -> None:
    """Refuse images that are smaller than one token of the first stage.

    Raises:
        ConfigError: They are.
    """
    if min(height, width) < stem_stride:
        raise ConfigError(
            f"image of {height} x {width} pixels: both sides must be at least the stem's stride, "
            f"{stem_stride}; enlarge the images or choose a smaller stem_stride"
        )


def fit_window(size: int, height: int, width: int, is_clamped: bool) -> tuple[int, int]:
    """Return rows and columns of a window on a map of height x width tokens."""
    return (min(size, height), min(size, width)) if is_clamped else (size, size)


def _for_each_stage(value: Any) -> list[Any]:
    """Repeat one value for both stages of Mamba and attention blocks, or take a sequence of one for each."""
    if value is None or isinstance(value, int | float | str):
        return [value, value]
    if len(value) != 2:
        raise ValueError(
            f"{list(value)}: mamba_ratio and pattern take one value or two, "
            "for the third and the fourth stage"
        )
    return list(value)
