from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.policies import TimmRandAugment, check_policy
from mambavision_lab.data.create import create_datamodule
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


GREY = (124, 124, 124)
MODES = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)  # timm draws one of them


def moved(*matrices):
    """Make what an image may become by affine maps, in either interpolation."""
    return lambda image: [
        image.transform(image.size, Image.Transform.AFFINE, matrix, mode, fillcolor=GREY)
        for matrix in matrices
        for mode in MODES
    ]


def enhanced(kind):
    return lambda image: [kind(image).enhance(factor) for factor in (1.81, 0.19)]


# Operation -> timm's strength at magnitude 9 of 10, and what an image may become by Pillow, either way.
AT_NINE = {
    "AutoContrast": (None, lambda image: [ImageOps.autocontrast(image)]),
    "Equalize": (None, lambda image: [ImageOps.equalize(image)]),
    "Invert": (None, lambda image: [ImageOps.invert(image)]),
    "Rotate": (
        27,  # degrees
        lambda image: [
            image.rotate(angle, mode, fillcolor=GREY) for angle in (27, -27) for mode in MODES
        ],
    ),
    "PosterizeIncreasing": (1, lambda image: [ImageOps.posterize(image, 1)]),  # bits
    "SolarizeIncreasing": (26, lambda image: [ImageOps.solarize(image, 26)]),  # threshold
    "SolarizeAdd": (99, lambda image: [image.point(lambda v: min(255, v + 99) if v < 128 else v)]),
    "ColorIncreasing": (0.81, enhanced(ImageEnhance.Color)),
    "ContrastIncreasing": (0.81, enhanced(ImageEnhance.Contrast)),
    "BrightnessIncreasing": (0.81, enhanced(ImageEnhance.Brightness)),
    "SharpnessIncreasing": (0.81, enhanced(ImageEnhance.Sharpness)),
    "ShearX": (0.27, moved((1, 0.27, 0, 0, 1, 0), (1, -0.27, 0, 0, 1, 0))),
    "ShearY": (0.27, moved((1, 0, 0, 0.27, 1, 0), (1, 0, 0, -0.27, 1, 0))),
    "TranslateXRel": (  # of the side, 20 pixels
        0.405,
        moved((1, 0, 0.405 * 20, 0, 1, 0), (1, 0, -0.405 * 20, 0, 1, 0)),
    ),
    "TranslateYRel": (
        0.405,
        moved((1, 0, 0, 0, 1, 0.405 * 20), (1, 0, 0, 0, 1, -0.405 * 20)),
    ),
}


def test_rand_augment_has_timms_operations_each_at_magnitude_nine():
    policy = TimmRandAugment().augment
    assert policy.num_layers == 2
    assert {op.name for op in policy.ops} == AT_NINE.keys()
    timms = rand_augment_transform("rand-m9-mstd0.5-inc1", {}).ops
    for op, other in zip(policy.ops, timms, strict=True):
        assert (op.name, op.prob, op.magnitude, op.magnitude_std) == (other.name, 0.5, 9, 0.5)


@pytest.mark.parametrize("name", AT_NINE)
def test_operation_of_rand_augment_is_that_of_pillow_at_timms_strength(name):
    op = next(op for op in TimmRandAugment("rand-m9-p1.0-inc1").augment.ops if op.name == name)
    strength, expected = AT_NINE[name]
    given = op.level_fn(9, op.hparams) if op.level_fn else None
    if strength is None:
        assert given is None
    else:  # enhancing factors are 1 +- the strength
        assert strength in (
            pytest.approx(abs(given[0])),
            pytest.approx(abs(given[0] - 1)),
        )
    colours = np.random.default_rng(0).integers(20, 230, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize((20, 20), Image.Resampling.BICUBIC)
    op.prob = 1.0
    found = np.array(op(image))
    assert not np.array_equal(found, np.array(image))
    assert any(np.array_equal(found, np.array(wanted)) for wanted in expected(image))


def datamodule(augment):
    return create_datamodule("synthetic", augment=augment, in_chans=3, image_size=16)


def test_three_augment_is_grey_solarised_or_blurred_in_equal_parts():
    policy = datamodule("three_augment").augment.policy
    image = (255 * torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))).byte()
    grey, solarised = TF.rgb_to_grayscale(image, 3), TF.solarize(image, 128)
    counts = Counter()
    for index in range(150):
        with Draws(0, 0, torch.tensor([index])).seed_libraries():
            found = policy(image)
        kinds = [torch.equal(found, grey), torch.equal(found, solarised)]
        is_blurred = found.float().std() < image.float().std() or torch.equal(found, image)
        counts["grey" if kinds[0] else "solarised" if kinds[1] else "blurred"] += 1
        assert any(kinds) or is_blurred
    assert min(counts.values()) > 150 / 3 - 20
    assert len(counts) == 3


def test_choices_of_augmentation_hold_what_they_are_named_after():
    policies = {name: datamodule(name).augment for name in ("light", "trivial", "randaugment")}
    assert policies["light"].policy is None
    assert isinstance(policies["trivial"].policy, v2.TrivialAugmentWide)
    assert isinstance(policies["randaugment"].policy, v2.RandAugment)
    assert (policies["randaugment"].policy.num_ops, policies["randaugment"].policy.magnitude) == (
        2,
        9,
    )
    assert datamodule("none").augment is None
    imagenet = datamodule("imagenet").augment
    assert isinstance(imagenet.policy, TimmRandAugment)
    assert (imagenet.brightness, imagenet.contrast, imagenet.saturation) == (0.4, 0.4, 0.4)
    assert (imagenet.erasing, imagenet.crop_scale) == (0.25, [0.08, 1.0])
    assert imagenet.crop_interpolation == "random"
    assert (imagenet.shift, imagenet.rotation_deg) == (0, 0)
    mixing = imagenet.mixing._mix
    assert (mixing.mixup_alpha, mixing.cutmix_alpha, mixing.switch_prob) == (0.8, 1.0, 0.5)


def test_rand_augment_posterizes_to_one_bit_at_the_largest_magnitude():
    ops = TimmRandAugment("rand-m10-inc1").augment.ops
    op = next(op for op in ops if op.name == "PosterizeIncreasing")
    image = Image.fromarray(np.full((4, 4, 3), 200, np.uint8))
    assert np.array(op.aug_fn(image, *op.level_fn(10, {}))).max() == 128


def test_rand_augment_refuses_what_timm_does_not_understand():
    with pytest.raises(ConfigError, match=r"augment.policy.spec=m9: wanted timm's notation"):
        TimmRandAugment("m9")


@pytest.mark.parametrize(
    ("policy", "shape"),
    [
        (v2.TrivialAugmentWide(), (4, 8, 8)),
        (TimmRandAugment(), (4, 8, 8)),
        (v2.RandAugment(magnitude=31), (3, 8, 8)),
        (v2.RandomChoice([v2.RandomInvert(), v2.GaussianBlur(9)]), (1, 4, 4)),
    ],
)
def test_policy_that_cannot_take_the_images_is_refused_before_any_is_read(policy, shape, refusal):
    state = torch.get_rng_state()
    message = refusal(lambda: check_policy(policy, shape))
    assert f"fails on an image of {' x '.join(map(str, shape))} (" in message
    assert torch.equal(torch.get_rng_state(), state)


def test_policy_that_takes_the_images_passes():
    check_policy(None, (4, 8, 8))
    for policy in (v2.TrivialAugmentWide(), v2.RandAugment(), TimmRandAugment()):
        check_policy(policy, (3, 8, 8))
