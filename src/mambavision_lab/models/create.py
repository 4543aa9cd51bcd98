"""Make networks in Python by name; their sizes are those of `configs/model/`."""

from typing import Any, cast

from omegaconf import OmegaConf

from mambavision_lab.files import configs_folder
from mambavision_lab.models.plain import PlainMambaVision


def create_mambavision_tiny(num_classes: int = 1000, **options: Any) -> PlainMambaVision:
    """The plain family's 3.2 M network; options as in `PlainMambaVision`."""
    return _create("mambavision_tiny", num_classes, options)


def create_mambavision_small(num_classes: int = 1000, **options: Any) -> PlainMambaVision:
    """The plain family's 22 M network; options as in `PlainMambaVision`."""
    return _create("mambavision_small", num_classes, options)


def create_mambavision_base(num_classes: int = 1000, **options: Any) -> PlainMambaVision:
    """The plain family's 88 M network; options as in `PlainMambaVision`."""
    return _create("mambavision_base", num_classes, options)


def create_mambavision_custom(num_classes: int = 1000, **options: Any) -> PlainMambaVision:
    """A plain network of any size: embed_dim, depth, mamba_ratio ... as in `PlainMambaVision`."""
    return PlainMambaVision(num_classes=num_classes, **options)


def _create(variant: str, num_classes: int, options: dict[str, Any]) -> PlainMambaVision:
    config = OmegaConf.load(configs_folder() / "model" / f"{variant}.yaml")
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    # What a config takes from its data set (an interpolation) is left to the caller or the default.
    sizes = {k: v for k, v in values.items() if k != "_target_" and not str(v).startswith("${")}
    return PlainMambaVision(**{**sizes, "num_classes": num_classes, **options})
