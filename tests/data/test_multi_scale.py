"""Sizes of training batches: which, in what order, of how many images, alike for all processes."""

from collections import Counter

import pytest
import torch

from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.multi_scale import ProgressiveSizes, RandomSizes, SizedBatches
from mambavision_lab.data.synthetic import SyntheticDataModule


def make_data(multi_scale, **options):
    settings = {"num_train": 96, "batch_size": 8, "num_val": 10, "num_test": 10} | options
    data = SyntheticDataModule(
        image_size=16, in_chans=1, num_classes=10, mean=[0.5], std=[0.5], **settings
    )
    data.multi_scale = multi_scale
    data.seed_training(3)
    return data


def batches_of(loader):
    """Size, number and labels of the images of each batch."""
    return [(size, len(labels), labels.tolist()) for _, labels, _, size in loader]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_random_sizes_come_equally_often_in_an_order_of_the_epoch(num_workers):
    data = make_data(RandomSizes([8, 12, 16]), num_workers=num_workers)
    loader = data.train_dataloader()
    first = batches_of(loader)
    assert len(loader) == len(first) == 12
    assert Counter(size for size, *_ in first) == {8: 4, 12: 4, 16: 4}
    assert {num for _, num, _ in first} == {8}
    assert batches_of(data.train_dataloader()) == first
    loader.sampler.set_epoch(1)
    second = batches_of(loader)
    assert [size for size, *_ in second] != [size for size, *_ in first]
    plain = make_data(None).train_dataloader()
    assert [labels.tolist() for _, labels, _ in plain] == [labels for *_, labels in first]


def test_resumed_epoch_has_the_sizes_of_the_unbroken_one():
    for multi_scale in (RandomSizes([8, 16]), RandomSizes([8, 16], scale_batch=True)):
        unbroken = make_data(multi_scale).train_dataloader()
        unbroken.sampler.set_epoch(2)
        resumed = make_data(multi_scale)
        resumed.resume_at(2, 3)
        assert batches_of(resumed.train_dataloader()) == batches_of(unbroken)[3:]


@pytest.mark.parametrize("scale_batch", [False, True])
def test_all_processes_take_the_same_sizes_and_share_the_images(scale_batch):
    multi_scale, seen = RandomSizes([8, 16], scale_batch=scale_batch), []
    orders = []
    for rank in range(2):
        sampler = SizedBatches(range(101), multi_scale, 4, seed=7, num_replicas=2, rank=rank)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        orders.append([(size, len(positions)) for size, positions in batches])
        seen += [position for _, positions in batches for position in positions]
    assert orders[0] == orders[1]
    assert len(set(seen)) == len(seen) >= 80


def test_smaller_images_fill_larger_batches_in_equally_many_steps():
    data = make_data(RandomSizes([8, 16], scale_batch=True))  # rounds of 32 + 8 images
    loader = data.train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        batches = batches_of(loader)
        assert len(batches) == len(loader) == 4
        assert {(size, num) for size, num, _ in batches} == {(8, 32), (16, 8)}


def test_progressive_sizes_grow_with_the_epochs():
    sizes = ProgressiveSizes([8, 12, 16], epochs=7)
    assert [sizes.sizes_in(0, epoch, 2) for epoch in range(8)] == [
        [size] * 2 for size in (8, 8, 8, 12, 12, 16, 16, 16)
    ]


def test_images_are_resized_before_they_are_augmented():
    data = make_data(RandomSizes([8]), augment=Augment(horizontal_flip=True, mixup=1.0))
    batch = next(iter(data.train_dataloader()))
    images, targets = data.prepare_batch(batch, is_training=True)
    assert batch[0].shape == (8, 1, 16, 16)
    assert images.shape == (8, 1, 8, 8)
    assert targets.shape == (8, 10)
    data.augment = None
    images, _ = data.prepare_batch(batch, is_training=True)
    halves = torch.nn.functional.avg_pool2d(batch[0].float() / 255, 2)
    assert images.mean() == pytest.approx(float(data.normalize(halves).mean()), abs=1e-2)
    images, _ = data.prepare_batch(next(iter(data.val_dataloader())))
    assert images.shape[-2:] == (16, 16)


def test_few_images_are_one_batch():
    assert len(batches_of(make_data(RandomSizes([8, 16]), num_train=5).train_dataloader())) == 1


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RandomSizes([]), "multi_scale.sizes=[]: wanted numbers of pixels"),
        (lambda: RandomSizes([8, 0]), "multi_scale.sizes=[8, 0]: wanted numbers of pixels"),
        (lambda: RandomSizes([8.5]), "multi_scale.sizes=[8.5]: wanted numbers of pixels"),
        (
            lambda: ProgressiveSizes([8, 16], epochs=1),
            "multi_scale.epochs=1: wanted at least one for each of the 2 sizes",
        ),
        (lambda: ProgressiveSizes([8, 16], epochs=-1), "set trainer.max_epochs"),
        (lambda: ProgressiveSizes([8, 16], epochs=None), "set trainer.max_epochs"),
        (
            make_data(RandomSizes([2, 16], scale_batch=True)).train_dataloader,
            "a batch of each size takes 520 images, and an epoch has 96 for each process",
        ),
    ],
)
def test_impossible_sizes_are_refused(make, named, refusal):
    assert named in refusal(make)


def test_description_says_how_many_pixels_are_left():
    assert RandomSizes([8, 16]).describe(16) == "8, 16; 62% of the pixels of 16"
    assert ProgressiveSizes([8], epochs=1).describe(16) == "8; 25% of the pixels of 16"
    scaled = RandomSizes([8, 16], scale_batch=True)
    assert scaled.describe(16).endswith("batches of smaller ones; 40% of the pixels of 16")


def test_batches_of_smaller_images_can_be_mixed_in_pairs_where_the_largest_can():
    sizes = RandomSizes([28, 32], scale_batch=True)
    assert sizes.num_images(28, 32) == 40  # of the same pixels 41
    assert sizes.num_images(28, 33) == 43
