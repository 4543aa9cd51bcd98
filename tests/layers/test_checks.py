"""Sizes and rates with which no network can be made are refused by their names."""

import pytest
import torch
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.block import Block
from mambavision_lab.layers.conv_block import ConvBlock
from mambavision_lab.layers.depthwise import DepthwiseConv1d
from mambavision_lab.layers.drop_path import DropPath
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.mlp import Mlp
from mambavision_lab.layers.stem import ConvStem
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision
from mambavision_lab.models.timm_classifier import timm_classifier

PLAIN = (
    "in_chans",
    "image_size",
    "stem_dim",
    "embed_dim",
    "num_heads",
    "d_state",
    "d_conv",
)
HIERARCHICAL = ("in_chans", "dim", "in_dim", "d_state", "d_conv")
RATES = ("drop_rate", "attn_drop_rate", "drop_path_rate")


def make_plain(**options):
    return PlainMambaVision(**{**TOY_OPTIONS, **options})


def make_hierarchical(**options):
    return MambaVision(**{**HIERARCHICAL_TOY, **options})


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
@pytest.mark.parametrize(
    ("make", "name"),
    [(make_plain, n) for n in PLAIN] + [(make_hierarchical, n) for n in HIERARCHICAL],
)
def test_size_that_is_no_positive_integer_is_refused_by_its_name(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name}={value!r}: wanted an integer of at least 1$"):
        make(**{name: value})


@pytest.mark.parametrize("value", [-1, 1.5, "2", None])
@pytest.mark.parametrize("name", ["depth", "num_classes"])
def test_size_that_may_be_zero_is_refused_below(name, value):
    with pytest.raises(ValueError, match=rf"^{name}={value!r}: wanted an integer of at least 0$"):
        make_plain(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan"), "0.1", None])
@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("make", [make_plain, make_hierarchical])
def test_rate_outside_its_range_is_refused_by_its_name(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name}={value!r}: wanted a number from 0 to below 1$"):
        make(**{name: value})


@pytest.mark.parametrize("value", [0, -2, float("nan"), float("inf"), "3", None])
@pytest.mark.parametrize(("name", "minimum"), [("expand", 2), ("mlp_ratio", 1)])
@pytest.mark.parametrize("make", [make_plain, make_hierarchical])
def test_ratio_that_leaves_no_channels_is_refused_by_its_name(make, name, minimum, value):
    wanted = f"wanted a number that makes at least {minimum} channels out of"
    with pytest.raises(ValueError, match=rf"^{name}={value!r}: {wanted}"):
        make(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("depths", [1, 1, -1, 1], "wanted integers of at least 0"),
        ("depths", [1, 1, 1.5, 1], "wanted integers of at least 0"),
        ("num_heads", [1, 1, 0, 1], "wanted integers of at least 1"),
        ("window_size", [8, 8, 0, 7], "wanted integers of at least 1"),
        ("window_size", [8, 8, -7, 7], "wanted integers of at least 1"),
        ("window_size", 7, "must have one value for each of 4 stages"),
        ("layer_scale", float("nan"), "wanted a finite number"),
        ("layer_scale_conv", "1", "wanted a finite number"),
        ("num_classes", -1, "wanted an integer of at least 0"),
    ],
)
def test_sizes_of_stages_are_refused_by_their_names(name, value, message):
    with pytest.raises(ValueError, match=rf"^{name.removesuffix('_conv')}.*{message}"):
        make_hierarchical(**{name: value})


def test_whole_layer_scale_and_stages_without_blocks_are_taken():
    net = make_hierarchical(layer_scale=1, layer_scale_conv=0, depths=(1, 0, 1, 0))
    assert net.levels[2].blocks[0].gamma_1.equal(torch.ones(16))
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attention(8, num_heads=0),
        lambda: Attention(0, num_heads=1),
        lambda: Block(0, torch.nn.Identity()),
        lambda: ConvBlock(0),
        lambda: ConvStem(3, 8, 0, 4),
        lambda: DepthwiseConv1d(8, 0),
        lambda: DropPath(1),
        lambda: MambaVisionMixer(8, d_state=0),
        lambda: MambaVisionMixer(8, expand=0.1),
        lambda: Mlp(8, 0),
        lambda: make_plain().reset_classifier(-1),
        lambda: make_plain().set_input_size(-16),
        lambda: timm_classifier(name="resnet18", num_classes=0),
        lambda: timm_classifier(name="resnet18", image_size=-32),
        lambda: timm_classifier(name="vit_tiny_patch16_224", patch_size=0),
        lambda: timm_classifier(name="resnet18", drop_rate=2),
    ],
)
def test_layers_alone_refuse_them_too(make):
    with pytest.raises(ValueError, match=r"^\w+=.*: wanted "):
        make()
