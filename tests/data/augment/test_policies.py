import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp, rand_augment_transform

from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.policies import TimmRandAugment
from mambavision_lab.errors import ConfigError


@pytest.mark.parametrize("in_chans", [1, 3])
def test_rand_augment_keeps_shape_and_type_and_follows_the_draw(in_chans):
    image = (torch.rand(in_chans, 16, 16) * 255).byte()
    policy = TimmRandAugment()
    results = []
    for index in (0, 1, 0):
        with Draws(0, 0, torch.tensor([index])).seed_libraries():
            results.append(policy(image))
    assert results[0].shape == image.shape
    assert results[0].dtype == torch.uint8
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


def test_rand_augment_has_timms_operations_at_magnitude_nine():
    ops = TimmRandAugment("rand-m9-inc1").augment.ops
    assert all(isinstance(op, AugmentOp) for op in ops)
    assert {op.name: op.magnitude for op in ops} == {
        op.name: 9 for op in rand_augment_transform("rand-m9-inc1", {}).ops
    }
    assert {"Rotate", "PosterizeIncreasing", "SolarizeIncreasing", "ColorIncreasing"} <= {
        op.name for op in ops
    }
    rotate = next(op for op in ops if op.name == "Rotate")
    assert abs(rotate.level_fn(9, {})[0]) == pytest.approx(27)  # degrees: 9 of 10 times 30


def test_rand_augment_posterizes_to_one_bit_at_the_largest_magnitude():
    ops = TimmRandAugment("rand-m10-inc1").augment.ops
    op = next(op for op in ops if op.name == "PosterizeIncreasing")
    image = Image.fromarray(np.full((4, 4, 3), 200, np.uint8))
    assert np.array(op.aug_fn(image, *op.level_fn(10, {}))).max() == 128


def test_rand_augment_refuses_what_timm_does_not_understand():
    with pytest.raises(ConfigError, match=r"augment.policy.spec=m9: wanted timm's notation"):
        TimmRandAugment("m9")
