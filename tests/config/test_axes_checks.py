import pytest
from composing import check

from mambavision_lab.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=synthetic_clips"], r"model.dims=2: .* such as mambavision_nano_3d"),
        (["model=mambavision_nano_3d"], r"model.dims=3: .* choose a model without _3d"),
        (["data=synthetic_volumes", "data.slices=middle", "model.dims=3"], r"the data are images"),
        (
            ["experiment=segmentation", "data=synthetic_segmentation_3d"],
            "choose experiment=segmentation_3d, or data=mask_folder",
        ),
        (
            ["experiment=segmentation_3d", "data=synthetic_segmentation"],
            "choose experiment=segmentation, or data=mask_folder_3d",
        ),
    ],
)
def test_networks_and_data_of_other_axes_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check("train", *arguments)


def test_networks_and_data_of_the_same_axes_are_taken():
    check("train", "data=synthetic_volumes", "model=mambavision_micro", "model.dims=3")
    check("train", "data=synthetic_volumes", "data.slices=middle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["augment=trivial"],
            r"augment.policy=torchvision.*: is for images, .* choose augment=vol",
        ),
        (["augment=imagenet"], r"augment.policy=mambavision_lab"),
        (["augment.cutmix=1"], r"augment.cutmix=1: is for images"),
        (
            ["multi_scale=random", "multi_scale.sizes=[8,16]"],
            r"multi_scale.sizes=\[8, 16\]: is for",
        ),
        (["tta=flip", "tta.flip=false", "tta.sizes=[16,32]"], r"tta.sizes=.* choose tta=none"),
    ],
)
def test_what_is_for_images_is_refused_for_volumes(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check("train", "data=synthetic_volumes", "model=mambavision_nano_3d", *arguments)


def test_augmentation_of_volumes_is_refused_for_images():
    with pytest.raises(ConfigError, match=r"is for volumes and clips, .* choose augment=light"):
        check("train", "augment=volumes")
    check("train", "data=synthetic_volumes", "model=mambavision_nano_3d", "augment=volumes")
    check("train", "data=synthetic_clips", "model=mambavision_nano_3d", "augment=clips")
