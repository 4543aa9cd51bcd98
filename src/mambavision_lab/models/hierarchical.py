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
from mambavision_lab.layers.axes import BATCH_NORM, check_dims, per_axis
from mambavision_lab.layers.block import Block
from mambavision_lab.layers.checks import check_counts, check_rates
from mambavision_lab.layers.conv_block import ConvBlock
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.position import by, check_axes
from mambavision_lab.layers.scan_order import ScanOrder, check_scan_order
from mambavision_lab.models.backbone import Backbone, Init
from mambavision_lab.models.pattern import Pattern, mamba_blocks
from mambavision_lab.models.pretrained import load_pretrained
from mambavision_lab.models.stage import PatchEmbed, Stage

torch.fx.wrap("check_image_size")  # it cannot follow control flow that depends on a size
_WITH_LAST = (r"^norm", (99999,))  # timm's mark for: in one group with what comes before


class MambaVision(Backbone):
    """Classify images, volumes or clips: two convolutional stages, two of Mamba and attention blocks.

    Images may have any height and width, volumes any number of slices. The defaults of all but the sizes
    are the published network.

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
        stem_stride: Pixels per side of a token of the first stage: 4, or 2 or 1 for small images; or one
            such number for each axis, such as (1, 2, 2) for volumes of few slices.
        clamp_windows: Shrink windows to the map where that is smaller, instead of padding the map.
        bidirectional: Scan from the last token to the first as well, with the same weights.
        widths: Layers whose width is another, by name, as those of a pruned network: `set_widths`.
        init: "mamba" keeps Mamba's initial step sizes; "published" overwrites them as the published
            training code does.
        dims: Spatial axes: 2 for images (N, C, H, W), 3 for volumes and clips (N, C, D, H, W).
        window_slices: Slices of tokens in a window; None is window_size. A map of fewer has smaller
            windows, whatever clamp_windows says.
        scan_order: "plain", "serpentine" (every second row backwards), and in volumes and clips
            "space_first" (as plain) or "time_first"; of the tokens of a window.
        use_checkpointing: Recompute each block in the backward pass to save memory.
        scan_backend: "auto" or a backend of `selective_scan`.
        pretrained: Weights to start from: a file, a folder or a hub id such as
            "nvidia/MambaVision-T-1K"; None for fresh ones. Those of images are inflated to volumes.
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
        stem_stride: int | Sequence[int] = 4,
        clamp_windows: bool = False,
        bidirectional: bool = False,
        widths: Mapping[str, int] | None = None,
        init: Init = "mamba",
        dims: int = 2,
        window_slices: int | None = None,
        scan_order: ScanOrder = "plain",
        use_checkpointing: bool = False,
        scan_backend: str = "auto",
        pretrained: str | None = None,
        pretrained_key: str | None = None,
    ) -> None:
        super().__init__()
        check_dims(dims)
        check_scan_order(scan_order, dims)
        for name, sizes in (
            ("depths", depths),
            ("num_heads", num_heads),
            ("window_size", window_size),
        ):
            if not isinstance(sizes, Sequence) or len(sizes) != 4:
                raise ValueError(f"{name}={sizes} must have one value for each of 4 stages")
        check_counts(dim=dim, num_heads=num_heads, window_size=window_size)
        check_counts(window_slices=window_slices or 1)
        check_counts(minimum=0, depths=depths, num_classes=num_classes)
        check_rates(
            drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = 8 * dim
        self.dims = dims
        self.stem_stride = per_axis("stem_stride", stem_stride, dims)
        self.patch_embed = PatchEmbed(in_chans, in_dim, dim, stem_stride, dims)
        ratios, patterns = _for_each_stage(mamba_ratio), _for_each_stage(pattern)
        rates = [drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        self.levels = nn.ModuleList()
        for i, depth in enumerate(depths):
            width = dim * 2**i
            start = sum(depths[:i])
            blocks: list[nn.Module] = []
            if i < 2:
                for rate in rates[start : start + depth]:
                    blocks.append(
                        ConvBlock(width, drop_path=rate, layer_scale=layer_scale_conv, dims=dims)
                    )
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
                    dims=dims,
                    window_slices=window_slices,
                    scan_order=scan_order,
                )
            )
        self.norm = BATCH_NORM[dims](self.num_features, eps=1e-5)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.feature_info = [
            {
                "num_chs": dim * 2**i,
                "reduction": self.stem_stride[-1] * 2**i,
                "module": f"levels.{i}",
            }
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
        check_image_size(x.shape[2:], self.stem_stride)
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
        x = self.head_drop(
            x.mean(dim=(-2, -1) if self.dims == 2 else (-3, -2, -1)) if self.global_pool else x
        )
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


def check_image_size(sides: Sequence[int], stem_stride: Sequence[int]) -> None:
    """Refuse images that are smaller than one token of the first stage, or of other axes.

    Raises:
        ConfigError: They are.
    """
    check_axes(sides, stem_stride)
    if any(side < stride for side, stride in zip(sides, stem_stride, strict=True)):
        wanted = stem_stride[0] if len({*stem_stride}) == 1 else by(stem_stride)
        which = "both" if len(sides) == 2 else "all"
        raise ConfigError(
            f"image of {by(sides)} pixels: {which} sides must be at least the stem's stride, "
            f"{wanted}; enlarge the images or choose a smaller stem_stride"
        )


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
