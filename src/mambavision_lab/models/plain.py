"""The plain family: one resolution throughout, Mamba and attention blocks in one stack.

A convolutional stem turns the image, volume or clip into tokens, pre-norm residual blocks mix them, mean
pooling and a linear head classify. The mixers are those of MambaVision (Hatamizadeh and Kautz 2024,
arXiv:2407.08083), the rest follows ViT (Dosovitskiy et al. 2020, arXiv:2010.11929).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.axes import check_dims, per_axis
from mambavision_lab.layers.block import Block
from mambavision_lab.layers.checks import check_counts, check_rates
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.position import resize_pos_embed, token_grid
from mambavision_lab.layers.scan_order import ScanOrder, check_scan_order
from mambavision_lab.layers.slabs import run_in_slabs, stem_in_slabs
from mambavision_lab.layers.stem import PATCH_SIZES, ConvStem
from mambavision_lab.layers.window import cut_sequences, join_sequences
from mambavision_lab.models.backbone import Backbone, Init, run_blocks
from mambavision_lab.models.pattern import Pattern, mamba_blocks
from mambavision_lab.models.pretrained import load_pretrained

# torch.fx cannot follow control flow that depends on a size; it takes these as they are.
for _name in ("token_grid", "resize_pos_embed", "cut_sequences", "join_sequences"):
    torch.fx.wrap(_name)


class PlainMambaVision(Backbone):
    """Classify images, volumes or clips with one stack of Mamba and attention blocks.

    Args:
        num_classes: Outputs of the head; 0 leaves the head out.
        in_chans: Channels of the images.
        image_size: Pixels per side for which the position embedding is made; other sizes may be
            given at run time.
        patch_size: Pixels per token and side, 1, 2, 4, 8 or 16; None follows the image: the largest
            that divides it and leaves at least seven tokens a side (16 at 224, 4 at 32 and 28), in a volume
            also along its slices. One number or None for each axis makes patches of other sides.
        stem_dim: Channels after the stem's first convolution.
        embed_dim: Channels of the tokens.
        depth: Number of blocks.
        num_heads: Heads of the attention blocks; must divide embed_dim.
        mlp_ratio: Hidden width of the MLPs as a multiple of embed_dim.
        mamba_ratio: Share of blocks that mix with Mamba, 0 (a ViT) to 1 (linear in the tokens).
        pattern: "alternating" (Mamba, attention, Mamba, ...) or "mamba_first".
        d_state: State size of the scan.
        d_conv: Kernel of the mixer's convolutions, in tokens.
        expand: Inner width of the mixer as a multiple of embed_dim.
        qkv_bias: Whether the attention's input projection has a bias.
        drop_rate: Dropout before the head and in the MLPs and attention outputs.
        attn_drop_rate: Dropout of the attention weights.
        drop_path_rate: Stochastic depth of the last block; rises linearly from 0.
        bidirectional: Scan from the last token to the first as well, with the same weights.
        widths: Layers whose width is another, by name, as those of a pruned network: `set_widths`.
        init: "mamba" keeps Mamba's initial step sizes; "published" overwrites them as the published
            training code does.
        dims: Spatial axes: 2 for images (N, C, H, W), 3 for volumes and clips (N, C, D, H, W).
        num_slices: Slices or frames for which the position embedding is made; None is image_size.
        window_slices: Slices of tokens that are mixed together; None mixes all of a volume.
        slab_slices: Slices of tokens that are computed at a time in inference on a volume, with equal results
            in less memory; None computes all. Blocks of attention take all even so.
        scan_order: "plain", "serpentine" (every second row backwards), and in volumes and clips
            "space_first" (as plain) or "time_first".
        use_checkpointing: Recompute each block in the backward pass to save memory.
        scan_backend: "auto" or a backend of `selective_scan`.
        pretrained: Weights to start from, a file or a folder; None for fresh ones. Their position
            embedding is interpolated; those of images are inflated to volumes.
        pretrained_key: Where in that file they lie, such as "model_ema"; None where one place alone fits.

    Raises:
        ValueError: A size does not fit another; the message names both.
        ConfigError: The pretrained weights cannot be had or do not fit.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        image_size: int = 224,
        patch_size: int | Sequence[int | None] | None = None,
        stem_dim: int = 48,
        embed_dim: int = 192,
        depth: int = 6,
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        mamba_ratio: float = 0.5,
        pattern: Pattern = "alternating",
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        bidirectional: bool = False,
        widths: Mapping[str, int] | None = None,
        init: Init = "mamba",
        dims: int = 2,
        num_slices: int | None = None,
        window_slices: int | None = None,
        slab_slices: int | None = None,
        scan_order: ScanOrder = "plain",
        use_checkpointing: bool = False,
        scan_backend: str = "auto",
        pretrained: str | None = None,
        pretrained_key: str | None = None,
    ) -> None:
        super().__init__()
        check_dims(dims)
        check_scan_order(scan_order, dims)
        check_counts(image_size=image_size)
        slices = {
            "num_slices": num_slices,
            "window_slices": window_slices,
            "slab_slices": slab_slices,
        }
        check_counts(**{name: number for name, number in slices.items() if number is not None})
        if slab_slices is not None and window_slices is not None:
            raise ValueError(
                f"slab_slices={slab_slices} with window_slices={window_slices}: the scan carries no state "
                "between windows; give one of them"
            )
        check_counts(minimum=0, depth=depth, num_classes=num_classes)
        check_rates(
            drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = embed_dim
        self.dims = dims
        self.scan_order = scan_order
        self.window_slices = window_slices if dims == 3 else None
        self.slab_slices = slab_slices if dims == 3 else None
        sides = (num_slices or image_size, image_size, image_size)[-dims:]
        given = zip(per_axis("patch_size", patch_size, dims), sides, strict=True)
        self.patch = tuple(
            default_patch_size(side) if size is None else size for size, side in given
        )
        self.patch_size = self.patch[-1]  # in the plane
        self.use_checkpointing = use_checkpointing
        self.stem = ConvStem(in_chans, stem_dim, embed_dim, self.patch, dims)
        grid = token_grid(sides, self.patch)
        self.pos_embed = nn.Parameter(torch.empty(1, embed_dim, *grid))
        self.blocks = nn.ModuleList()
        for i, is_mamba in enumerate(mamba_blocks(depth, mamba_ratio, pattern)):
            mixer: nn.Module
            if is_mamba:
                mixer = MambaVisionMixer(
                    embed_dim,
                    d_state=d_state,
                    d_conv=d_conv,
                    expand=expand,
                    bidirectional=bidirectional,
                    scan_backend=scan_backend,
                )
            else:
                mixer = Attention(
                    embed_dim,
                    num_heads=num_heads,
                    qkv_bias=qkv_bias,
                    attn_drop=attn_drop_rate,
                    proj_drop=drop_rate,
                )
            block = Block(
                embed_dim,
                mixer,
                mlp_ratio=mlp_ratio,
                drop=drop_rate,
                drop_path=drop_path_rate * i / max(1, depth - 1),
            )
            self.blocks.append(block)
        self.norm = nn.LayerNorm(embed_dim)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        self.feature_info = [
            {"num_chs": embed_dim, "reduction": self.patch_size, "module": f"blocks.{i}"}
            for i in range(depth)
        ]
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.set_widths(widths)
        self.init_weights(init)
        self.register_load_state_dict_pre_hook(_fit_loaded_state_dict)
        if pretrained is not None:
            load_pretrained(self, pretrained, pretrained_key)

    def forward_stages(self, x: Tensor, indices: Sequence[int] | None = None) -> list[Tensor]:
        """Return the maps (N, embed_dim, *grid) that blocks give for images (N, C, *sides).

        Args:
            x: Images.
            indices: Which blocks' maps, in ascending order; None is all.

        Raises:
            ConfigError: A side is not a multiple of the patch size.
        """
        wanted = range(len(self.blocks)) if indices is None else indices
        grid = token_grid(x.shape[2:], self.patch)
        x, maps = self._embed(x, grid), []
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = self._run([block], x, grid)
            if i in wanted:
                maps.append(self.map_of_sequences(x, grid))
        return maps

    def map_of_sequences(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Turn what a block gives into a map (N, embed_dim, *grid)."""
        tokens = join_sequences(x, grid, self.window_slices, self.scan_order)
        return tokens.transpose(1, 2).unflatten(2, grid)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return normalised tokens (N, length, embed_dim), row by row, for images (N, C, *sides).

        Raises:
            ConfigError: A side is not a multiple of the patch size.
        """
        grid = token_grid(x.shape[2:], self.patch)
        x = self._run(self.blocks, self._embed(x, grid), grid)
        return self.norm(join_sequences(x, grid, self.window_slices, self.scan_order))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool tokens (N, length, embed_dim) and classify; pre_logits stops before the classifier."""
        x = self.head_drop(x.mean(dim=1) if self.global_pool else x)
        return x if pre_logits else self.head(x)

    def set_input_size(self, img_size: int | Sequence[int]) -> None:
        """Interpolate the position embedding, once and for all, to images of these sides.

        Raises:
            ConfigError: A side is not a multiple of the patch size.
        """
        sides = per_axis("img_size", img_size, self.dims)
        check_counts(img_size=sides)
        grid = token_grid(sides, self.patch)
        own = self.pos_embed
        self.pos_embed = nn.Parameter(resize_pos_embed(own.detach(), grid), own.requires_grad)
        if traits := getattr(self, "_traits", None):  # timm's, which its tools read
            self._traits = {**traits, "img_size": sides}

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters that weight decay should leave alone, beyond biases and norms."""
        return super().no_weight_decay() | {"pos_embed"}

    def norm_map(self, x: Tensor) -> Tensor:
        """Apply the final norm to a map (N, embed_dim, *grid)."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)

    def features_of_map(self, x: Tensor) -> Tensor:
        """Turn the last map into what `forward_features` returns."""
        return self.norm(x.flatten(2).transpose(1, 2))

    def stages(self) -> nn.ModuleList:
        """Return the blocks."""
        return self.blocks

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of parameter names by depth: a layer for each block."""
        # 99999 is timm's mark for: in one group with what comes before.
        return {
            "stem": r"^stem|^pos_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def fit_state_dict(self, state_dict: dict[str, Tensor], prefix: str = "") -> None:
        """Inflate weights of images to a volume's, and interpolate the position embedding, in place."""
        key = prefix + "pos_embed"
        loaded, own = state_dict.get(key), self.pos_embed
        if loaded is not None and loaded.ndim == 4 and own.ndim == 5:
            loaded = loaded[:, :, None].expand(-1, -1, own.shape[2], -1, -1)
        if loaded is not None and loaded.ndim == own.ndim and loaded.shape[:2] == own.shape[:2]:
            state_dict[key] = resize_pos_embed(loaded, own.shape[2:])
        super().fit_state_dict(state_dict, prefix)

    def _embed(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        slab = self._slab()
        x = self.stem(x) if slab is None else stem_in_slabs(self.stem, x, slab)
        x = x + resize_pos_embed(self.pos_embed, grid)
        tokens = x.flatten(2).transpose(1, 2)
        return cut_sequences(tokens, grid, self.window_slices, self.scan_order)

    def _run(self, blocks: Iterable[nn.Module], x: Tensor, grid: tuple[int, ...]) -> Tensor:
        slab = self._slab()
        if slab is None:
            return run_blocks(blocks, x, self.use_checkpointing)
        return run_in_slabs(blocks, x, slab * math.prod(grid[1:]))

    def _slab(self) -> int | None:
        return None if self.training or torch.is_grad_enabled() else self.slab_slices


def default_patch_size(image_size: int) -> int:
    """Return the largest patch that divides the image and leaves at least seven tokens a side."""
    fitting = (p for p in PATCH_SIZES if image_size % p == 0 and image_size // p >= 7)
    return next(fitting, 1)


def _fit_loaded_state_dict(
    module: PlainMambaVision, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    module.fit_state_dict(state_dict, prefix)
