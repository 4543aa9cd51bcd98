from collections import Counter

import pytest
import torch

from mambavision_lab.data.sampling import ResumableSampler
from mambavision_lab.data.synthetic import SyntheticDataModule


def labels_of(loader):
    return [labels.tolist() for _, labels, *_ in loader]


def make_loader(**resumed):
    data = SyntheticDataModule(
        image_size=8, in_chans=1, num_classes=10, mean=[0.5], std=[0.5], batch_size=8,
        num_train=40, num_val=10, num_test=10,
    )  # fmt: skip
    if resumed:
        data.resume_at(**resumed)
    return data.train_dataloader()


def test_order_is_that_of_the_resumed_epoch_before_a_trainer_sets_it():
    unbroken = make_loader()
    orders = []
    for epoch in range(4):
        unbroken.sampler.set_epoch(epoch)
        orders.append(labels_of(unbroken))
    assert orders[2] != orders[0]
    resumed = make_loader(epoch=2, num_batches=3)
    assert labels_of(resumed) == orders[2][3:]  # workers fetch before set_epoch
    resumed.sampler.set_epoch(2)
    assert labels_of(resumed) == orders[2][3:]
    assert len(resumed) == len(unbroken) == 5
    resumed.sampler.set_epoch(3)
    assert labels_of(resumed) == orders[3]


LABELS = torch.tensor([0] * 90 + [2] * 20 + [5] * 10)


def sample(epoch=0, rank=0, ranks=1, **options):
    """Return the indices and the rounds of one epoch, of one process."""
    sampler = ResumableSampler(range(120), num_replicas=ranks, rank=rank, seed=3, **options)
    sampler.set_epoch(epoch)
    assert len(sampler) == 120 // ranks
    return [(position % 120, position // 120) for position in sampler]


def test_order_is_the_one_of_torchs_sampler():
    for rank in (0, 1):
        torchs = torch.utils.data.DistributedSampler(range(120), 2, rank, seed=3, drop_last=True)
        torchs.set_epoch(4)
        assert sample(4, rank, 2) == [(index, 4) for index in torchs]


def test_balanced_order_gives_each_class_equally_often_and_its_images_as_evenly_as_it_can():
    counts = Counter(index for index, _ in sample(labels=LABELS))
    by_class = Counter(LABELS[index].item() for index in counts.elements())
    assert by_class == {0: 40, 2: 40, 5: 40}
    assert set(counts.values()) == {1, 2, 4}
    assert all(counts[index] == 4 for index in range(110, 120))


def test_balanced_order_follows_from_the_epoch_and_is_shared_by_processes():
    whole = sample(1, labels=LABELS)
    assert whole == sample(1, labels=LABELS) != sample(2, labels=LABELS)
    assert whole[::2] == sample(1, 0, 2, labels=LABELS)
    assert whole[1::2] == sample(1, 1, 2, labels=LABELS)


@pytest.mark.parametrize("labels", [None, LABELS])
def test_each_time_that_an_image_is_given_is_another_round(labels):
    for repeats in (1, 2, 3):
        given = [x for epoch in range(4) for x in sample(epoch, labels=labels, repeats=repeats)]
        assert len(set(given)) == len(given) == 480


def test_repeated_order_gives_an_image_in_turn_and_fewer_images():
    indices = [index for index, _ in sample(repeats=3)]
    assert indices[::3] == indices[1::3] == indices[2::3]
    assert len(set(indices)) == 40
    ranks = [{index for index, _ in sample(0, rank, 3, repeats=3)} for rank in range(3)]
    assert ranks[0] == ranks[1] == ranks[2]  # each copy goes to another process, as timm's


def test_images_are_mirrored_every_other_epoch_in_any_order():
    for options in ({}, {"repeats": 2}, {"labels": LABELS}):
        first_rounds = [min(round_ for _, round_ in sample(epoch, **options)) for epoch in (0, 1)]
        assert (first_rounds[1] - first_rounds[0]) % 2 == 1
