"""Check that network and augmentation take what the data give: images, or volumes and clips."""

from typing import Any

from mambavision_lab.config.mask_checks import trains_masks
from mambavision_lab.errors import ConfigError

_OURS = "mambavision_lab."  # the axes of other data modules are not known
_VOLUME_AUGMENT = "mambavision_lab.data.augment.volume.VolumeAugment"


def check_axes(cfg: dict[str, Any]) -> None:
    """Compare the axes of the data with those of what else a training's config has, as plain values.

    Raises:
        ConfigError: They differ.
    """
    data, model = cfg.get("data") or {}, cfg.get("model") or {}
    if not str(data.get("_target_")).startswith(_OURS):
        return
    has_volumes = "num_slices" in data and data.get("slices") != "middle"
    dims = model.get("dims", 2)
    has_masks = trains_masks(cfg)
    if has_volumes and dims == 2:
        advice = "choose a model such as mambavision_nano_3d, or data.slices=middle"
        if has_masks:
            advice = "choose experiment=segmentation_3d, or data=mask_folder"
        raise ConfigError(
            f"model.dims={dims}: takes images, and the data are volumes or clips; {advice}"
        )
    if dims == 3 and not has_volumes:
        advice = "choose a model without _3d, or data such as synthetic_volumes"
        if has_masks:
            advice = "choose experiment=segmentation, or data=mask_folder_3d"
        raise ConfigError(
            f"model.dims={dims}: takes volumes or clips, and the data are images; {advice}"
        )
    augment = data.get("augment") or {}
    if has_volumes:
        _refuse_for_images(cfg, augment)
    elif augment.get("_target_") == _VOLUME_AUGMENT:
        raise ConfigError(
            "augment: is for volumes and clips, and the data are images; choose augment=light"
        )


def _refuse_for_images(cfg: dict[str, Any], augment: dict[str, Any]) -> None:
    """Refuse what changes images only."""
    for name, value in (
        ("augment.policy", augment.get("policy")),
        ("augment.cutmix", augment.get("cutmix")),
        ("multi_scale.sizes", (cfg.get("multi_scale") or {}).get("sizes")),
        ("tta.sizes", (cfg.get("tta") or {}).get("sizes")),
    ):
        if value:
            group, _, _ = name.partition(".")
            choices = (
                "augment=volumes, clips, light or none" if group == "augment" else f"{group}=none"
            )
            given = value.get("_target_", value) if isinstance(value, dict) else value
            raise ConfigError(
                f"{name}={given}: is for images, and the data are volumes or clips; choose {choices}"
            )
