"""Test-time augmentation: which views there are, and how their predictions are averaged."""

import pytest
import torch
from torch.testing import assert_close

from mambavision_lab.models.tta import TestTimeAugmentation


def logits_of(images):
    """Make logits of three classes that depend on where the pixels are."""
    columns = torch.arange(images.shape[-1]).float()
    return torch.stack(
        [images.mean((1, 2, 3)), (images * columns).mean((1, 2, 3)), images[:, 0, 0, 0]], 1
    )


def test_tta_averages_probabilities_over_an_image_and_its_mirror_image():
    images = torch.randn(4, 2, 8, 8)
    found = TestTimeAugmentation(flip=True)(logits_of, images)
    expected = (logits_of(images).softmax(1) + logits_of(images.flip(3)).softmax(1)) / 2
    assert_close(found.exp(), expected)
    assert_close(found.softmax(1), expected)


def test_tta_averages_the_probability_of_each_of_several_labels():
    images = torch.randn(4, 2, 8, 8)
    found = TestTimeAugmentation(flip=True)(logits_of, images, is_multilabel=True)
    expected = (logits_of(images).sigmoid() + logits_of(images.flip(3)).sigmoid()) / 2
    assert_close(found.sigmoid(), expected)


def test_tta_shifts_by_whole_pixels_to_four_sides():
    image = torch.arange(25.0).view(1, 1, 5, 5)
    same, down, up, right, left = (
        view[0, 0] for view in TestTimeAugmentation(shift=1).views(image)
    )
    assert torch.equal(same, image[0, 0])
    assert torch.equal(down[1:], same[:-1])
    assert torch.equal(up[:-1], same[1:])
    assert torch.equal(right[:, 1:], same[:, :-1])
    assert torch.equal(left[:, :-1], same[:, 1:])
    assert torch.equal(left[:, -1], same[:, -2])  # mirrored at the border


@pytest.mark.parametrize(
    ("options", "shapes", "words"),
    [
        ({}, [8], "one view"),
        ({"flip": True, "shift": 2}, [8] * 10, "flips and shifts of 2 px"),
        ({"crop": 0.5}, [8] * 6, "crops of 0.5"),
        ({"sizes": [8, 12], "flip": True}, [8, 8, 12, 12], "flips and sizes 8, 12"),
    ],
)
def test_tta_views_are_all_combinations(options, shapes, words):
    tta = TestTimeAugmentation(**options)
    views = list(tta.views(torch.randn(2, 3, 8, 8)))
    assert [view.shape for view in views] == [(2, 3, size, size) for size in shapes]
    assert str(tta) == words


def test_tta_leaves_the_sides_of_an_image_alone():
    views = TestTimeAugmentation(flip=True).views(torch.randn(2, 3, 8, 12))
    assert [view.shape for view in views] == [(2, 3, 8, 12)] * 2


def test_tta_crops_corners_and_centre():
    image = torch.zeros(1, 1, 8, 8)
    image[..., :4, :4] = 1
    means = [view.mean().item() for view in TestTimeAugmentation(crop=0.5).views(image)]
    assert means == pytest.approx([0.25, 1, 0, 0, 0, 0.25])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": True, "flip_keeps_class": False}, "data.flip_keeps_class=false"),
        ({"shift": -1}, "tta.shift=-1"),
        ({"crop": 1.0}, "tta.crop=1.0"),
        ({"sizes": []}, "tta.sizes=[]"),
    ],
)
def test_tta_refuses(options, message, refusal):
    assert message in refusal(lambda: TestTimeAugmentation(**options))


def test_tta_refuses_what_the_network_or_the_image_does_not_allow(make_net, refusal):
    net = make_net().train()
    message = refusal(lambda: TestTimeAugmentation(sizes=[16, 17]).check(net, 2, 16))
    assert message.startswith(
        "tta.sizes=[16, 17]: PlainMambaVision does not take images of 17 x 17"
    )
    assert net.training
    assert "tta.shift=16" in refusal(lambda: TestTimeAugmentation(shift=16).check(net, 2, 16))
