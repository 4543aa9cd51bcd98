"""Base of both families: another head, maps of the stages, frozen parts, layers for fine-tuning.

Names and conventions are those of timm's models, whose tools take our networks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mambavision_lab.layers.checks import check_counts
from mambavision_lab.models.freezing import evaluate_frozen, first_parameters
from mambavision_lab.models.inflate import inflate_kernels

Init = Literal["mamba", "published"]


class Backbone(nn.Module):
    """Base of the families: a stem, a stack of stages (blocks in the plain family), a norm, a head.

    Attributes:
        num_features: Channels of the features.
        num_classes: Outputs of the head; 0 if it has none.
        in_chans: Channels of the images.
        dims: Spatial axes: 2 for images (N, C, H, W), 3 for volumes and clips (N, C, D, H, W). Shapes below
            are those of images.
        global_pool: "avg", or "" for features that are not pooled, without a head.
        feature_info: For each map of `forward_stages` its channels (`num_chs`), its stride in pixels
            (`reduction`) and the name of the module that gives it (`module`).
    """

    num_features: int
    num_classes: int
    in_chans: int
    dims: int
    global_pool: str = "avg"
    feature_info: list[dict[str, Any]]
    head: nn.Module
    norm: nn.Module

    @property
    def head_hidden_size(self) -> int:
        """Channels of the features that the classifier takes."""
        return self.num_features

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) for images x (N, C, H, W)."""
        return self.forward_head(self.forward_features(x))

    def forward_stages(self, x: Tensor, indices: Sequence[int] | None = None) -> list[Tensor]:
        """Return maps (N, C, H, W) of the stages with these indices, all by default."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """Return normalised features of images (N, C, H, W), in the family's own layout."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool what `forward_features` returned and classify it."""
        raise NotImplementedError

    def stages(self) -> nn.ModuleList:
        """Return the stages, first to last."""
        raise NotImplementedError

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of parameter names by depth, as timm's `param_groups_layer_decay` reads them."""
        raise NotImplementedError

    def fit_state_dict(self, state_dict: dict[str, Tensor], prefix: str = "") -> None:
        """Adapt, in place, entries that may be loaded although their shape differs: here, inflate kernels."""
        if self.dims == 3:
            inflate_kernels(state_dict, self.state_dict(), prefix)

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters that weight decay should leave alone, beyond biases and norms."""
        return {name for name, _ in self.named_parameters() if name.endswith((".A_log", ".D"))}

    def get_classifier(self) -> nn.Module:
        """Return the last layer, from pooled features to logits."""
        return self.head

    def set_input_size(self, img_size: int | Sequence[int]) -> None:
        """Fit the network to images of another size, height and width in pixels.

        Without it other sizes are fine as well; it saves the plain family from interpolating its position
        embedding in each forward pass.
        """

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a fresh one for another number of classes.

        Args:
            num_classes: Outputs; 0 leaves the head out.
            global_pool: "avg", or "" to leave out the pooling too; None keeps it as it is.

        Raises:
            ValueError: global_pool is unknown, or "" with a head.
        """
        check_counts(minimum=0, num_classes=num_classes)
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ("avg", ""):
            raise ValueError(f"global_pool={pool!r} is unknown; choose 'avg' or ''")
        if num_classes and not pool:
            raise ValueError(
                f"global_pool='' leaves out the head, and num_classes={num_classes}; "
                "choose global_pool='avg' or num_classes=0"
            )
        self.num_classes, self.global_pool = num_classes, pool
        if not num_classes:
            self.head = nn.Identity()
            return
        like = next(self.parameters())
        self.head = nn.Linear(
            self.num_features, num_classes, device=like.device, dtype=like.dtype
        ).train(self.training)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return maps (N, C, H, W) of stages, in timm's convention.

        Args:
            x: Images (N, C, H, W).
            indices: Which stages; negative ones count from the end, a number means the last so many.
            norm: Whether maps as wide as the last one pass the final norm.
            stop_early: Unused: nothing beyond the last map wanted is computed unless it is returned.
            output_fmt: "NCHW".
            intermediates_only: Return the maps alone, without the features of `forward_features`.

        Raises:
            ValueError: An index is out of range, or the format is another.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r} is unknown; choose 'NCHW'")
        taken = take_indices(len(self.feature_info), indices)
        last = len(self.stages()) - 1
        wanted = taken if intermediates_only else [*taken, last]
        found = dict(zip(sorted(set(wanted)), self.forward_stages(x, wanted), strict=True))
        maps = [found[i] for i in taken]
        if norm:
            is_wide = [m.shape[1] == self.num_features for m in maps]
            maps = [self.norm_map(m) if wide else m for m, wide in zip(maps, is_wide, strict=True)]
        return maps if intermediates_only else (self.features_of_map(found[last]), maps)

    def norm_map(self, x: Tensor) -> Tensor:
        """Apply the final norm to a map (N, num_features, H, W)."""
        raise NotImplementedError

    def features_of_map(self, x: Tensor) -> Tensor:
        """Turn the last map (N, num_features, H, W) into what `forward_features` returns."""
        raise NotImplementedError

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] | None = None,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Drop what the maps of these stages do not need; returns the indices, none negative."""
        taken = take_indices(len(self.feature_info), indices)
        del self.stages()[max(taken) + 1 :]
        last = self.stages()[-1]
        if hasattr(last, "downsample"):
            last.downsample = nn.Identity()
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return taken

    def freeze(self, num_stages: int | None = None) -> None:
        """Stop the training of the stem and the first stages; BatchNorms among them keep their means.

        Args:
            num_stages: How many stages (blocks in the plain family) beside the stem; None freezes all
                but the head.

        Raises:
            ValueError: There are not as many stages.
        """
        for parameter in first_parameters(self, num_stages).values():
            parameter.requires_grad_(False)
        self.train(self.training)

    def unfreeze(self) -> None:
        """Train everything again."""
        self.requires_grad_(True)
        self.train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass to save memory, as `use_checkpointing` does."""
        for module in self.modules():
            if hasattr(module, "use_checkpointing"):
                module.use_checkpointing = enable  # type: ignore[assignment]

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode as `nn.Module.train` does, except that frozen parts stay in evaluation mode."""
        super().train(mode)
        if mode:
            evaluate_frozen(self, (p for p in self.parameters() if p.requires_grad))
        return self

    def set_widths(self, widths: Mapping[str, int] | None) -> None:
        """Make layers narrower, or wider, than the sizes say, as a pruned network's are; fresh weights.

        Args:
            widths: Name of a block's MLP, mixer or convolutional block -> its channels between, its channels
                scanned, or its attention heads; or of a plain network's stem -> its stem_dim.

        Raises:
            ValueError: There is no such layer, or no such width.
        """
        for name, width in (widths or {}).items():
            layer: Any = dict(self.named_modules()).get(name)
            if not hasattr(layer, "resize"):
                raise ValueError(
                    f"widths: {name} is no layer with a width; wanted one such as blocks.0.mlp"
                )
            layer.resize(width)

    def init_weights(self, init: Init) -> None:
        """Sample the linear layers; "published" also overwrites the step sizes of Mamba in `dt_proj`.

        Raises:
            ValueError: init is unknown.
        """
        if init not in ("mamba", "published"):
            raise ValueError(f"init={init!r} is unknown; choose 'mamba' or 'published'")
        for name, module in self.named_modules():
            is_step = name.endswith("dt_proj") and init == "mamba"
            if isinstance(module, nn.Linear) and not is_step:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class FeatureExtractor(nn.Module):
    """Return maps of a network instead of logits; what they do not need is dropped from the network.

    Args:
        net: A network of either family.
        out_indices: Which of its stages (blocks in the plain family); negative ones count from the
            end, None takes all.

    Raises:
        ValueError: An index is out of range.
    """

    def __init__(self, net: Backbone, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.out_indices = net.prune_intermediate_layers(out_indices, prune_norm=True)
        self.feature_info = [net.feature_info[i] for i in self.out_indices]
        self.net = net

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one map (N, C, H, W) for each index, for images (N, C, H, W)."""
        maps = self.net.forward_intermediates(x, self.out_indices, intermediates_only=True)
        return cast(list[Tensor], maps)


def take_indices(num_stages: int, indices: int | Sequence[int] | None) -> list[int]:
    """Resolve indices of stages: None is all, a number the last so many, negatives from the end.

    Raises:
        ValueError: One is out of range.
    """
    if indices is None:
        return list(range(num_stages))
    taken = range(num_stages - indices, num_stages) if isinstance(indices, int) else indices
    wrong = [i for i in taken if not -num_stages <= i < num_stages]
    if wrong or not len(taken) or (isinstance(indices, int) and indices > num_stages):
        given = indices if isinstance(indices, int) else list(indices)
        raise ValueError(
            f"out_indices={given} is out of range: there are {num_stages} maps, "
            f"0 to {num_stages - 1}"
        )
    return [i % num_stages for i in taken]


def run_blocks(blocks: Iterable[nn.Module], x: Tensor, use_checkpointing: bool) -> Tensor:
    """Apply blocks in order; with checkpointing each is recomputed in the backward pass."""
    for block in blocks:
        if use_checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
    return x
