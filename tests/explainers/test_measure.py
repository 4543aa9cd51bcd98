"""Deletion and insertion, pointing, the randomisation check, and the masks that they are measured against."""

import pytest
import torch
from torch import nn

from mambavision_lab.data.synthetic import SyntheticDataModule, generate_images
from mambavision_lab.explainers.faithfulness import measure
from mambavision_lab.explainers.measure import (
    area,
    curves,
    points_at,
    rank_correlation,
    scrambled,
)


class Corner(nn.Module):
    """Sees the upper left quarter of an image alone."""

    def forward(self, x):
        score = x[:, :, :2, :2].sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


def test_deletion_falls_and_insertion_rises_where_the_map_is_right():
    image = torch.ones(1, 1, 4, 4)
    right = torch.zeros(4, 4)
    right[:2, :2] = 1
    good, bad = (curves(Corner(), image, m, 0) for m in (right, 1 - right))
    assert good.deletion[4] == pytest.approx(0.5)  # a quarter of the pixels gone, the score is 0
    assert bad.deletion[12] == pytest.approx(good.deletion[0])
    assert area(good.deletion) < area(bad.deletion)
    assert area(good.insertion) > area(bad.insertion)
    assert good.insertion[-1] == good.deletion[0]


def test_pointing_shares_ties_between_places():
    mask = torch.tensor([[True, False], [False, False]])
    assert points_at(torch.tensor([[2.0, 1.0], [0.0, 0.0]]), mask) == 1
    assert points_at(torch.ones(2, 2), mask) == 0.25


def test_scrambled_weights_are_other_weights_of_the_same_values(make_net):
    net = make_net()
    other = scrambled(net)
    weight, changed = net.head.weight, other.head.weight
    assert not torch.equal(weight, changed)
    assert torch.equal(weight.flatten().sort().values, changed.flatten().sort().values)
    x = torch.rand(5, 5)
    assert rank_correlation(x, x) == pytest.approx(1)
    assert rank_correlation(x, -x) == pytest.approx(-1)
    assert rank_correlation(x, torch.ones(5, 5)) == 0


def test_baselines_do_not_depend_on_the_weights(make_net):
    images = [*torch.randn(2, 1, 2, 16, 16)]
    masks = [torch.ones(16, 16, dtype=torch.bool)] * 2
    rows = {row.method: row.values() for row in measure(make_net().eval(), images, ["scan"], masks)}
    assert [*rows] == ["scan", "centre", "random"]
    assert rows["centre"]["correlation"] == pytest.approx(1)
    assert rows["random"]["correlation"] == pytest.approx(1)
    assert rows["scan"]["correlation"] < 0.999
    assert all(row["pointing"] == 1 for row in rows.values())


@pytest.mark.parametrize("is_far", [False, True])
def test_masks_are_those_of_the_objects(is_far):
    options = {"image_size": 32, "in_chans": 3, "num_classes": 10, "mean": [0.5], "std": [0.3]}
    data = SyntheticDataModule(**options, seed=1)
    images, masks = data.masked_images(20, is_far=is_far)
    assert (images.shape, masks.shape) == ((20, 3, 32, 32), (20, 32, 32))
    for image, mask in zip(images.double(), masks, strict=True):
        inside, outside = image[:, mask].mean(), image[:, ~mask].mean()
        assert abs(inside - outside) > 40  # objects are much lighter or darker than the background
        assert image[:, ~mask].std(dim=1).max() < 30  # and the background is one colour with noise
    if is_far:
        assert masks.sum(dim=(1, 2)).max() < 64  # smaller than a window of 8 x 8
        assert not masks[:, 14:18, 14:18].any()
    else:
        again = generate_images(
            torch.arange(20) % 10, 32, 3, torch.Generator().manual_seed(3 + 3 * 2**20)
        )
        assert torch.equal(images, again)
