import numpy as np
import pytest
import torch
from timm.data import Mixup

from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.mixing import Mixing
from mambavision_lab.errors import ConfigError

LABELS = torch.tensor([2, 0, 1, 2])


def batch():
    """Images of one value each, so that a mixed pixel tells its shares."""
    return torch.tensor([0.0, 0.1, 0.2, 0.4]).reshape(-1, 1, 1, 1).expand(-1, 3, 8, 8).clone()


def draws(epoch=0):
    return Draws(0, epoch, torch.arange(4))


@pytest.mark.parametrize("per_image", [False, True])
def test_mixup_gives_pixels_and_targets_the_same_shares(per_image):
    given = batch()
    images, targets = Mixing(mixup=0.8, per_image=per_image)(given, LABELS, 3, draws())
    assert torch.equal(given, batch())  # the caller's images stay
    partners, one_hot = batch().flip(0), torch.eye(3)[LABELS]
    shares = ((images - partners) / (batch() - partners))[:, 0, 0, 0]
    assert torch.all((shares > 0) & (shares < 1))
    assert (shares.max() - shares.min() > 0.01) == per_image
    expected = shares[:, None] * one_hot + (1 - shares[:, None]) * one_hot.flip(0)
    torch.testing.assert_close(targets, expected)


@pytest.mark.parametrize("per_image", [False, True])
def test_cutmix_gives_areas_and_targets_the_same_shares(per_image):
    images, targets = Mixing(cutmix=1.0, per_image=per_image)(batch(), LABELS, 3, draws(1))
    one_hot = torch.eye(3)[LABELS]
    own = (images == batch()).float().mean((1, 2, 3))[:, None]
    assert torch.all((images == batch()) | (images == batch().flip(0)))
    torch.testing.assert_close(targets, own * one_hot + (1 - own) * one_hot.flip(0))


def test_mixing_equals_timms_with_the_same_random_numbers():
    for epoch in range(6):  # MixUp and CutMix by turns
        actual = Mixing(mixup=0.8, cutmix=1.0)(batch(), LABELS, 3, draws(epoch))
        mixup = Mixup(0.8, 1.0, label_smoothing=0.0, num_classes=3)
        with draws(epoch).seed_libraries():
            expected = mixup(batch(), LABELS)
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_mixing_leaves_numpys_random_state_alone():
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    Mixing(mixup=0.8)(batch(), LABELS, 3, draws())
    assert np.random.rand() == expected


def test_mixing_switches_and_mixes_by_its_shares():
    mixing = Mixing(mixup=0.8, cutmix=1.0, prob=0.5, switch_prob=1.0)
    kinds = []
    for epoch in range(200):
        images, targets = mixing(batch(), LABELS, 3, draws(epoch))
        kinds.append(torch.equal(images, batch()))
        assert torch.all((images == batch()) | (images == batch().flip(0)))  # never MixUp
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert 65 < sum(kinds) < 135  # 100 +- 5 standard deviations


@pytest.mark.parametrize("num", [1, 3])
def test_mixing_refuses_batches_that_have_no_pairs(num):
    with pytest.raises(ConfigError, match=rf"a batch of {num} images cannot be mixed in pairs"):
        Mixing(mixup=0.8)(batch()[:num], LABELS[:num], 3, draws())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": -1.0}, "augment.mixup=-1.0 must be 0"),
        ({"mixup": 1.0, "prob": 1.5}, "augment.mix_prob=1.5 must lie between 0 and 1"),
    ],
)
def test_mixing_refuses_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        Mixing(**settings)
