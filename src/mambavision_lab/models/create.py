"""Make networks in Python by name; their sizes are those of `configs/model/`.

Options are those of the family's constructor, among them `pretrained`. Beside them each function takes
`features_only=True`, with `out_indices`, for a `FeatureExtractor` that returns maps instead of logits.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

from omegaconf import OmegaConf

from mambavision_lab.files import configs_folder, list_choices
from mambavision_lab.models.backbone import Backbone, FeatureExtractor
from mambavision_lab.models.plain import PlainMambaVision


def create_mambavision(variant: str, num_classes: int = 1000, **options: Any) -> Any:
    """Make the network of a config in `configs/model/`, by its name, such as "nvidia/mambavision_t".

    Raises:
        ValueError: There is no such config.
    """
    values = read_variant(variant)
    module, _, name = values.pop("_target_").rpartition(".")
    # Interpolations stand for sizes of the data set; those are the caller's, or the constructor's default.
    sizes = {k: v for k, v in values.items() if not str(v).startswith("${")}
    make = getattr(import_module(module), name)
    return _create(make, {**sizes, "num_classes": num_classes, **options})


def read_variant(variant: str) -> dict[str, Any]:
    """Read the config of a variant: its `_target_` and options, sizes of the data as interpolations.

    Raises:
        ValueError: There is no such config.
    """
    path = configs_folder() / "model" / f"{variant}.yaml"
    if not path.is_file():
        known = ", ".join(list_choices("model"))
        raise ValueError(f"variant={variant!r} is unknown; choose one of {known}")
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path), resolve=False))


def create_mambavision_tiny(num_classes: int = 1000, **options: Any) -> Any:
    """Make the plain family's 3.2 M network; options as in `PlainMambaVision`."""
    return create_mambavision("mambavision_tiny", num_classes, **options)


def create_mambavision_small(num_classes: int = 1000, **options: Any) -> Any:
    """Make the plain family's 22 M network; options as in `PlainMambaVision`."""
    return create_mambavision("mambavision_small", num_classes, **options)


def create_mambavision_base(num_classes: int = 1000, **options: Any) -> Any:
    """Make the plain family's 88 M network; options as in `PlainMambaVision`."""
    return create_mambavision("mambavision_base", num_classes, **options)


def create_mambavision_custom(num_classes: int = 1000, **options: Any) -> Any:
    """Make a plain network of any size: embed_dim, depth, mamba_ratio ... as in `PlainMambaVision`."""
    return _create(PlainMambaVision, {"num_classes": num_classes, **options})


def _create(make: Any, options: dict[str, Any]) -> Backbone | FeatureExtractor:
    features_only: bool = options.pop("features_only", False)
    out_indices: Sequence[int] | None = options.pop("out_indices", None)
    if out_indices is not None and not features_only:
        raise ValueError(f"out_indices={list(out_indices)} needs features_only=True")
    net = make(**options)
    return FeatureExtractor(net, out_indices) if features_only else net
