"""Check that data, network, loss and what surrounds them are all for masks, or all for classes of images."""

from typing import Any

from mambavision_lab.errors import ConfigError

SEGMENTATION = "mambavision_lab.lit.segmentation.SegmentationModule"
CLASSIFIER = "mambavision_lab.lit.image_classifier.ImageClassifier"
_LOSS = "mambavision_lab.lit.mask_losses.DiceCrossEntropy"
# What takes or gives masks; of other targets of ours it is known that they do not.
_DATA = (
    "mambavision_lab.data.synthetic_segmentation.SyntheticSegmentationDataModule",
    "mambavision_lab.data.synthetic_segmentation.SyntheticVolumeSegmentationDataModule",
    "mambavision_lab.data.mask_folder.MaskFolderDataModule",
    "mambavision_lab.data.mask_folder.VolumeMaskFolderDataModule",
)
_NETS = ("mambavision_lab.models.segmentation.SegmentationNet",)
_ANY_LOSS = ("mambavision_lab.lit.losses.CrossEntropy",)
_CHOICES = {
    "data": "data=synthetic_segmentation or data=mask_folder",
    "model": "model=segmentation with model.encoder=NAME",
    "loss": "loss=dice",
}
# Node, an option of it that changes labels of images or images alone, and what to give instead.
_NOT_FOR_MASKS = (
    ("augment", "mixup", "give 0"),
    ("augment", "cutmix", "give 0"),
    ("augment", "policy", "choose augment=light or augment=none"),
    ("augment", "erasing", "give 0"),
    ("tta", "_target_", "choose tta=none"),
    ("multi_scale", "_target_", "choose multi_scale=none"),
)


def trains_masks(cfg: Any) -> bool:
    """Return whether a config, composed or as plain values, is of a segmentation."""
    return ((cfg.get("classifier") or {}).get("_target_")) == SEGMENTATION


def check_masks(resolved: dict[Any, Any]) -> None:
    """Check the plain values of a training's or an evaluation's config.

    Raises:
        ConfigError: One part is for masks and another for classes of images.
    """
    targets = {
        key: str((resolved.get(key) or {}).get("_target_", ""))
        for key in ("data", "model", "loss", "classifier")
    }
    if targets["classifier"] not in (SEGMENTATION, CLASSIFIER):
        return  # a module of the user's
    is_segmentation = targets["classifier"] == SEGMENTATION
    if is_segmentation and resolved.get("prune"):
        raise ConfigError(
            "prune: networks of masks cannot be pruned; give from_run= a run that trained classes of images"
        )
    known = {"data": _DATA, "model": _NETS, "loss": (_LOSS, *_ANY_LOSS)}
    for key, with_masks in known.items():
        target = targets[key]
        if not target.startswith("mambavision_lab."):
            continue
        if (target in with_masks) == is_segmentation or target in _ANY_LOSS:
            continue
        name = target.rpartition(".")[2]
        if is_segmentation:
            raise ConfigError(
                f"{key}: {name} is for classes of images, and the classifier, SegmentationModule, trains "
                f"masks; choose {_CHOICES[key]}, or leave experiment=segmentation out"
            )
        raise ConfigError(
            f"{key}: {name} is for masks, and the classifier, ImageClassifier, trains classes of images; "
            "choose experiment=segmentation or segmentation_3d"
        )
    if not is_segmentation:
        return
    for node, option, advice in _NOT_FOR_MASKS:
        if value := (resolved.get(node) or {}).get(option):
            shown = f"{node}.{option}={value}" if option != "_target_" else node
            raise ConfigError(
                f"{shown}: changes images or their labels in a way that masks cannot follow; {advice}"
            )
