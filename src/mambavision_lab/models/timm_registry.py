"""Register every variant with timm, under the last part of its config's name.

After `import mambavision_lab.timm`, `timm.create_model("mambavision_t", num_classes=10)`,
`features_only=True` and timm's own tools work. Options are those of our constructors; timm's `img_size` is
our `image_size`, and `global_pool=""` with `num_classes=0` leaves the features unpooled.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    register_notrace_module,
)
from torch import nn

from mambavision_lab.layers.axes import Conv2d, Conv3d
from mambavision_lab.layers.drop_path import DropPath
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.models.create import create_mambavision
from mambavision_lab.models.plain import default_patch_size
from mambavision_lab.models.pretrained import load_pretrained
from mambavision_lab.models.registry import VARIANTS, Variant


def _default_cfg(variant: Variant) -> dict[str, Any]:
    """Describe a variant to timm's tools: the images that it wants, its first and last layer."""
    size = variant.image_size
    tokens = size // default_patch_size(size) if variant.is_plain else -(-size // variant.stride)
    return {
        "hf_hub_id": variant.weights,
        "input_size": (3, size, size),
        "pool_size": (tokens, tokens),
        "num_classes": 1000,
        "first_conv": "stem.0" if variant.is_plain else "patch_embed.conv_down.0",
        "classifier": "head",
        "license": None if variant.weights is None else "cc-by-nc-sa-4.0",
    }


default_cfgs = generate_default_cfgs({v.name: _default_cfg(v) for v in VARIANTS})


def _entry_point(variant: Variant) -> Callable[..., nn.Module]:
    def create(
        pretrained: bool | str = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: Any = None,
        **options: Any,
    ) -> nn.Module:
        weights = None
        if pretrained:
            weights = _find_source(variant, pretrained, pretrained_cfg, pretrained_cfg_overlay)
        if options.get("features_only"):  # they are never pooled
            options.pop("global_pool", None)
        return build_model_with_cfg(
            partial(_create, variant, weights),
            variant.name,
            pretrained=False,  # our constructors load weights themselves
            pretrained_cfg=pretrained_cfg,
            pretrained_cfg_overlay=pretrained_cfg_overlay,
            feature_cfg={"feature_cls": "getter", "out_indices": None},
            **options,
        )

    create.__name__ = create.__qualname__ = variant.name
    create.__doc__ = f"Make the network of model={variant.config}."
    return create


def _create(
    variant: Variant,
    weights: str | None,
    *,
    num_classes: int,
    global_pool: str = "avg",
    img_size: int | Sequence[int] | None = None,
    pretrained_key: str | None = None,
    **options: Any,
) -> nn.Module:
    sides = (img_size, img_size) if isinstance(img_size, int) else img_size
    sizes = variant.size_options()
    if sizes and sides:
        sizes["image_size"] = min(sides)
    net = create_mambavision(variant.config, num_classes, **sizes, **options)
    if sides:
        net.set_input_size(sides)
    if weights is not None:
        load_pretrained(net, weights, pretrained_key)
    if global_pool != "avg":
        net.reset_classifier(num_classes, global_pool)
    return net


def _find_source(
    variant: Variant, pretrained: bool | str, cfg: Any, overlay: dict[str, Any] | None
) -> str:
    """Return the file or hub id of the weights to load: what was given, else the published ones."""
    if isinstance(pretrained, str):
        return pretrained
    given = {**(cfg if isinstance(cfg, dict) else {}), **(overlay or {})}
    source = given.get("file") or given.get("hf_hub_id") or variant.weights
    if source is None:
        raise ValueError(
            f"pretrained=True: {variant.name} has no published weights; "
            "give pretrained_cfg_overlay=dict(file=...)"
        )
    return str(source)


for _variant in VARIANTS:
    register_model(_entry_point(_variant))
# Leaves for torch.fx, as the functions of sizes in `plain.py` and `hierarchical.py` are.
for _module in (MambaVisionMixer, DropPath, Conv2d, Conv3d):
    register_notrace_module(_module)
