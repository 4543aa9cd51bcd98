"""Apply whatever augmentation a data module was given to a batch and its labels."""

from torch import Tensor, nn

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.masks import augment_masks
from mambavision_lab.data.augment.volume import VolumeAugment


def augment_batch(
    augment: nn.Module,
    images: Tensor,
    labels: Tensor,
    draws: Draws | None,
    *,
    num_classes: int,
    has_masks: bool,
) -> tuple[Tensor, Tensor]:
    """Augment images (N, C, H, W) in [0, 1], which may be changed, or volumes, and their labels.

    Args:
        augment: An `Augment`, or another module for the images; of masks a transform that takes both.
        images: The batch.
        labels: As a loader gives them.
        draws: Random numbers of these images; None draws them from torch's random state.
        num_classes: Number of classes.
        has_masks: Whether the labels are masks.

    Returns:
        Images, and labels; where images are mixed, the share of each class, (N, num_classes).
    """
    if draws is None:
        draws = Draws.unseeded(len(images))
    if has_masks:
        return augment_masks(augment, images, labels, draws)
    if not isinstance(augment, Augment):
        with draws.seed_libraries():
            return augment(images), labels
    images = augment(images, draws, inplace=True)
    if augment.mixing is not None:
        images, labels = augment.mixing(images, labels, num_classes, draws)
    return images, labels


def is_by_image(augment: nn.Module | None) -> bool:
    """Tell whether each image is augmented to the bit as if it were alone, after it was fetched.

    Others than ours may treat a batch as one.
    """
    if augment is None:
        return True
    if type(augment) not in (Augment, VolumeAugment):
        return False
    return augment.mixing is None and augment.policy is None
