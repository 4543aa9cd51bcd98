"""Make every variant known to timm, under the last part of its config's name.

After `import mambavision_lab.models.timm_registry`, or of any part of the package once timm is there,
`timm.create_model("mambavision_t", num_classes=10)`, `features_only=True` and timm's own tools work.
Options are those of our constructors; timm's `img_size` is our `image_size`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from mambavision_lab.models.registry import VARIANTS, Variant


def _default_cfg(variant: Variant) -> dict[str, Any]:
    """What timm's tools know of a variant: the images that it wants, its first and last layer."""
    is_plain = not variant.config.startswith("nvidia/")
    size = (3, variant.image_size, variant.image_size)
    return {
        "hf_hub_id": variant.weights,
        "input_size": size,
        "num_classes": 1000,
        "first_conv": "stem.0" if is_plain else "patch_embed.conv_down.0",
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
        img_size: int | None = None,
        **options: Any,
    ) -> nn.Module:
        from mambavision_lab.models.create import create_mambavision

        make = partial(create_mambavision, variant.config)
        if pretrained:
            given = (pretrained_cfg_overlay or {}).get("file")
            weights = (pretrained if isinstance(pretrained, str) else given) or variant.weights
            if weights is None:
                raise ValueError(
                    f"pretrained=True: {variant.name} has no published weights; "
                    "give pretrained_cfg_overlay=dict(file=...)"
                )
            make = partial(make, pretrained=weights)
        sizes = variant.size_options()
        if img_size is not None and sizes:
            sizes["image_size"] = img_size
        return build_model_with_cfg(
            make,
            variant.name,
            pretrained=False,  # our constructors load weights themselves
            pretrained_cfg=pretrained_cfg,
            pretrained_cfg_overlay=pretrained_cfg_overlay,
            feature_cfg={"feature_cls": "getter", "out_indices": None},
            kwargs_filter=("global_pool",),
            **sizes,
            **options,
        )

    create.__name__ = create.__qualname__ = variant.name
    create.__doc__ = f"The network of model={variant.config}."
    return create


for _variant in VARIANTS:
    register_model(_entry_point(_variant))
