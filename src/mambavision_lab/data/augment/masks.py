"""Augmentation of images together with their masks: pixels of both move alike, colours change the image."""

from copy import copy

from torch import Tensor, nn
from torchvision.tv_tensors import Mask

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.errors import ConfigError


def check_mask_augment(augment: nn.Module | None) -> None:
    """Refuse what would change an image and not its mask.

    Raises:
        ConfigError: Images are mixed or erased, or a policy is applied to each image alone.
    """
    if getattr(augment, "mixing", None) is not None:
        raise ConfigError("augment.mixup, augment.cutmix: mix labels of images, not masks; give 0")
    if getattr(augment, "policy", None) is not None:
        raise ConfigError("augment.policy: moves images without their masks; give null")
    if getattr(augment, "erasing", 0):
        raise ConfigError("augment.erasing: hides what the mask still shows; give 0")


def augment_masks(
    augment: nn.Module, images: Tensor, masks: Tensor, draws: Draws
) -> tuple[Tensor, Tensor]:
    """Augment images (N, C, H, W) in [0, 1] and their masks (N, H, W), int64; volumes likewise.

    A pixel that a rotation moves takes the class of the nearest one; what a shift or a rotation lets in is
    class 0, unless it is mirrored.

    Args:
        augment: An `Augment`; or a transform of torchvision's v2, which takes both.
        images: The batch.
        masks: Class of each pixel.
        draws: Random numbers of these images.
    """
    if not isinstance(augment, Augment):
        with draws.seed_libraries():
            images, moved = augment(images, Mask(masks))
        return images, moved.as_subclass(Tensor)
    same = copy(draws)
    planes = augment.move(masks[:, None].to(images.dtype), same, interpolation="nearest")
    return augment.recolour(augment.move(images, draws), draws), planes[:, 0].long()
