import pytest
import torch
from torchvision.transforms import v2

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.masks import augment_masks, check_mask_augment
from mambavision_lab.data.augment.volume import VolumeAugment

AUGMENTS = {
    "flips and shifts": (Augment(horizontal_flip=True, shift=0.3), 2),
    "mirrored border": (Augment(shift=0.4, padding="reflect"), 2),
    "rotation": (Augment(rotation_deg=40), 2),
    "volumes as images": (Augment(horizontal_flip=True, shift=0.2), 3),
    "volumes": (
        VolumeAugment(horizontal_flip=True, depth_flip=True, quarter_turns=True, tilt_deg=20),
        3,
    ),
    "torchvision": (v2.RandomHorizontalFlip(p=1.0), 2),
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_mask_moves_with_its_image(name):
    augment, dims = AUGMENTS[name]
    sides = (12,) * dims
    masks = torch.zeros(4, *sides, dtype=torch.long)
    masks[:, 2:7, 1:5] = 1
    masks[:, 8:, 6:9] = 2
    images = torch.stack([(masks == k).float() for k in range(3)], dim=1)
    draws = Draws(0, 1, torch.arange(4))
    moved, new = augment_masks(augment, images, masks, draws)
    assert new.shape == masks.shape
    assert new.dtype == torch.long
    assert not torch.equal(new, masks)
    assert (new[moved.amax(1) == 0] == 0).all()  # what is let in
    own, inside = moved.gather(1, new[:, None])[:, 0], moved.sum(1) > 0.999
    assert (
        own[inside].min() > 0.5**dims - 1e-4
    )  # the nearest pixel's share in the interpolated image


def test_colours_change_the_image_alone():
    masks = torch.randint(3, (2, 8, 8))
    images = torch.rand(2, 3, 8, 8)
    changed, same = augment_masks(Augment(brightness=0.5), images, masks, Draws.unseeded(2))
    assert torch.equal(same, masks)
    assert not torch.equal(changed, images)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mixup": 0.2}, "augment.mixup"),
        ({"cutmix": 1.0}, "augment.cutmix"),
        ({"erasing": 0.5}, "augment.erasing"),
        ({"policy": v2.RandomHorizontalFlip()}, "augment.policy"),
    ],
)
def test_augmentation_of_images_alone_is_refused(refusal, settings, words):
    assert words in refusal(lambda: check_mask_augment(Augment(**settings)))
