"""The plain family: one resolution throughout, Mamba and attention blocks in one stack.

A convolutional stem turns the image into tokens, pre-norm residual blocks mix them, mean pooling and
a linear head classify. The mixers are those of MambaVision (Hatamizadeh and Kautz 2024,
arXiv:2407.08083), the rest follows ViT (Dosovitskiy et al. 2020, arXiv:2010.11929).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.block import Block
from mambavision_lab.layers.checks import check_counts, check_rates
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.stem import PATCH_SIZES, ConvStem
from mambavision_lab.models.backbone import Backbone, Init, run_blocks
from mambavision_lab.models.pattern import Pattern, mamba_blocks
from mambavision_lab.models.pretrained import load_pretrained

# torch.fx cannot follow control flow that depends on a size; it takes these as they are.
for _name in ("token_grid", "resize_pos_embed"):
    torch.fx.wrap(_name)


class PlainMambaVision(Backbone):
    """Classify images with one stack of Mamba and attention blocks.

    Args:
        num_classes: Outputs of the head; 0 leaves the head out.
        in_chans: Channels of the images.
        image_size: Pixels per side for which the position embedding is made; other sizes may be
            given at run time.
        patch_size: Pixels per token and side, 1, 2, 4, 8 or 16; None follows the image: the largest
            that divides it and leaves at least seven tokens a side (16 at 224, 4 at 32 and 28).
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
        use_checkpointing: Recompute each block in the backward pass to save memory.
        scan_backend: "auto" or a backend of `selective_scan`.
        pretrained: Weights to start from, a file or a folder; None for fresh ones. Their position
            embedding is interpolated.
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
        patch_size: int | None = None,
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
        use_checkpointing: bool = False,
        scan_backend: str = "auto",
        pretrained: str | None = None,
        pretrained_key: str | None = None,
    ) -> None:
        super().__init__()
        check_counts(image_size=image_size)
        check_counts(minimum=0, depth=depth, num_classes=num_classes)
        check_rates(
            drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate
        )
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = embed_dim
        self.patch_size = default_patch_size(image_size) if patch_size is None else patch_size
        self.use_checkpointing = use_checkpointing
        self.stem = ConvStem(in_chans, stem_dim, embed_dim, self.patch_size)
        grid = token_grid(image_size, image_size, self.patch_size)
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
        """Return the maps (N, embed_dim, rows, columns) that blocks give for images (N, C, H, W).

        Args:
            x: Images.
            indices: Which blocks' maps, in ascending order; None is all.

        Raises:
            ConfigError: H or W is not a multiple of the patch size.
        """
        wanted = range(len(self.blocks)) if indices is None else indices
        grid = token_grid(x.shape[-2], x.shape[-1], self.patch_size)
        x, maps = self._embed(x), []
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = run_blocks([block], x, self.use_checkpointing)
            if i in wanted:
                maps.append(x.transpose(1, 2).unflatten(2, grid))
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Return normalised tokens (N, length, embed_dim), rows first, for images (N, C, H, W).

        Raises:
            ConfigError: H or W is not a multiple of the patch size.
        """
        return self.norm(run_blocks(self.blocks, self._embed(x), self.use_checkpointing))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool tokens (N, length, embed_dim) and classify; pre_logits stops before the classifier."""
        x = self.head_drop(x.mean(dim=1) if self.global_pool else x)
        return x if pre_logits else self.head(x)

    def set_input_size(self, img_size: int | Sequence[int]) -> None:
        """Interpolate the position embedding, once and for all, to images of this height and width.

        Raises:
            ConfigError: A side is not a multiple of the patch size.
        """
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        check_counts(img_size=[height, width])
        grid = token_grid(height, width, self.patch_size)
        own = self.pos_embed
        self.pos_embed = nn.Parameter(resize_pos_embed(own.detach(), grid), own.requires_grad)
        if traits := getattr(self, "_traits", None):  # timm's, which its tools read
            self._traits = {**traits, "img_size": (height, width)}

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters that weight decay should leave alone, beyond biases and norms."""
        return super().no_weight_decay() | {"pos_embed"}

    def norm_map(self, x: Tensor) -> Tensor:
        """Apply the final norm to a map (N, embed_dim, rows, columns)."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

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
        """Interpolate, in place, the position embedding of another grid."""
        key = prefix + "pos_embed"
        loaded, own = state_dict.get(key), self.pos_embed
        if loaded is not None and loaded.ndim == 4 and loaded.shape[:2] == own.shape[:2]:
            state_dict[key] = resize_pos_embed(loaded, (own.shape[2], own.shape[3]))

    def _embed(self, x: Tensor) -> Tensor:
        grid = token_grid(x.shape[-2], x.shape[-1], self.patch_size)
        x = self.stem(x) + resize_pos_embed(self.pos_embed, grid)
        return x.flatten(2).transpose(1, 2)


def token_grid(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """Return how many tokens an image of height x width pixels has down and across.

    Raises:
        ConfigError: A side is not a multiple of the patch size.
    """
    if height % patch_size or width % patch_size or not height or not width:
        sides = (height, width)
        below = " x ".join(str(max(patch_size, n // patch_size * patch_size)) for n in sides)
        above = " x ".join(str(max(1, -(-n // patch_size)) * patch_size) for n in sides)
        raise ConfigError(
            f"image of {height} x {width} pixels: both sides must be multiples of the patch size "
            f"{patch_size}; the next sizes that fit are {below} and {above}"
        )
    return height // patch_size, width // patch_size


def default_patch_size(image_size: int) -> int:
    """Return the largest patch that divides the image and leaves at least seven tokens a side."""
    fitting = (p for p in PATCH_SIZES if image_size % p == 0 and image_size // p >= 7)
    return next(fitting, 1)


def resize_pos_embed(pos_embed: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a position embedding (1, dim, rows, columns) to another grid (bicubic)."""
    if tuple(pos_embed.shape[-2:]) == grid:
        return pos_embed
    wide = F.interpolate(pos_embed.float(), grid, mode="bicubic", antialias=True)
    return wide.to(pos_embed.dtype)


def _fit_loaded_state_dict(
    module: PlainMambaVision, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    module.fit_state_dict(state_dict, prefix)
