import pytest
import torch

from mambavision_lab.data.synthetic_segmentation import (
    SyntheticSegmentationDataModule,
    SyntheticVolumeSegmentationDataModule,
)

SIZES = {"num_train": 12, "num_val": 4, "num_test": 4, "mean": [0.5], "std": [0.3]}


def make(dims, **settings):
    if dims == 2:
        sizes = {"image_size": 24, "in_chans": 3, "num_classes": 6}
        return SyntheticSegmentationDataModule(**SIZES | sizes | settings)
    sizes = {"num_slices": 8, "image_size": 16, "in_chans": 1, "num_classes": 4}
    return SyntheticVolumeSegmentationDataModule(**SIZES | sizes | settings)


@pytest.mark.parametrize("dims", [2, 3])
def test_objects_differ_in_brightness_from_what_is_around(dims):
    train = make(dims).splits.train
    assert train.labels.shape == (12, *train.images.shape[2:])
    for image, mask in zip(train.images.float(), train.labels, strict=True):
        inside, outside = image[:, mask > 0].mean(1), image[:, mask == 0].mean(1)
        assert ((inside - outside).abs() > 20).any()


@pytest.mark.parametrize("dims", [2, 3])
def test_batch_has_the_class_of_each_pixel_and_follows_from_the_seed(dims):
    data = make(dims, batch_size=4)
    images, masks = data.prepare_batch(next(iter(data.val_dataloader())))
    assert masks.dtype == torch.int64
    assert images.shape[2:] == masks.shape[1:]
    assert masks.unique().tolist()[0] == 0
    assert torch.equal(make(dims).splits.train.labels, data.splits.train.labels)
    assert not torch.equal(make(dims, seed=1).splits.train.labels, data.splits.train.labels)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("num_classes", [1, 9])
def test_other_numbers_of_classes_are_refused(refusal, dims, num_classes):
    message = refusal(lambda: make(dims, num_classes=num_classes).splits)
    assert message.startswith(f"data.num_classes={num_classes}: wanted 2 to")


def test_part_of_the_slices_is_refused(refusal):
    assert "data.slices=middle" in refusal(lambda: make(3, slices="middle"))
