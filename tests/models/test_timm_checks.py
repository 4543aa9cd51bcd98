"""The checks that timm makes of every model it registers, for each of our variants.

Written after tests/test_models.py and tests/test_model_input.py of timm 1.0.31. Variants of more than 60 M
parameters are built on the meta device, where shapes and gradients are checked, but no values. The
hierarchical family passes the checks of timm's standard models; the plain one, whose features are tokens,
those that timm makes of its ViTs. Left out is torch.jit.script, which cannot compile the choice among the
scan's backends (`export=torchscript` traces instead).
"""

import math

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

import mambavision_lab.timm  # noqa: F401  (registers)
from mambavision_lab.models.registry import VARIANTS

SMALL = ("mambavision_micro", "mambavision_nano", "mambavision_tiny", "mambavision_small")
SMALL += ("mambavision_t", "mambavision_t2", "mambavision_s")
QUICK = ("mambavision_micro", "mambavision_nano", "mambavision_tiny", "mambavision_t")
SIZE = 64  # pixels


@pytest.fixture(
    params=[pytest.param(v, marks=[pytest.mark.slow] * (v.name not in QUICK)) for v in VARIANTS],
    ids=lambda variant: variant.name,
)
def variant(request):
    return request.param


@pytest.fixture
def make(variant):
    """Make networks of a variant, small enough to compute with, or else on the meta device."""

    def make(img_size=SIZE, **options):
        return timm.create_model(variant.name, img_size=img_size, **options).eval()

    with torch.device("cpu" if variant.name in SMALL else "meta"):
        yield make


def is_tokens(variant):
    return variant.is_plain


def assert_no_nan(x):
    assert x.is_meta or not x.isnan().any()


def assert_equal(actual, expected):
    assert actual.shape == expected.shape
    assert actual.is_meta or torch.equal(actual, expected)


def assert_all_have_gradients(net):
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_forward_gives_the_same_with_checkpointing(make):
    net, x = make(), torch.randn(1, 3, SIZE, SIZE)
    y = net(x)
    assert y.shape == (1, 1000)
    assert_no_nan(y)
    net.set_grad_checkpointing()
    assert_equal(net(x), y)


def test_backward_reaches_every_parameter(make):
    net = make(num_classes=42).train()
    y = net(torch.randn(2, 3, SIZE, SIZE))
    y.mean().backward()
    assert y.shape == (2, 42)
    assert_no_nan(y)
    assert_all_have_gradients(net)


def test_features_have_the_sizes_of_the_default_config(variant):
    """Nothing is computed here, so the images have the size that each variant was designed for."""
    with torch.device("meta"):
        net = timm.create_model(variant.name).eval()
        cfg, keys = net.default_cfg, set(net.state_dict())
        x = torch.randn(1, *cfg["input_size"])
        tokens = math.prod(cfg["pool_size"])
        unpooled = (1, net.num_features, *cfg["pool_size"])
        if is_tokens(variant):
            unpooled = (1, tokens, net.num_features)
        pooled = (1, net.head_hidden_size)
        features = net.forward_features(x)
        assert features.shape == unpooled
        assert net.forward_head(features, pre_logits=True).shape == pooled
        net.reset_classifier(0)
        assert net.num_classes == 0
        assert net(x).shape == pooled
        net.reset_classifier(0, "")
        assert net(x).shape == unpooled
        net.reset_classifier(7, "avg")
        assert net(x).shape == (1, 7)
        assert timm.create_model(variant.name, num_classes=0)(x).shape == pooled
        assert timm.create_model(variant.name, num_classes=0, global_pool="")(x).shape == unpooled
    assert cfg["classifier"] + ".weight" in keys
    assert cfg["first_conv"] + ".weight" in keys


@pytest.mark.parametrize("pool", ["", "max"])
def test_pooling_that_the_head_cannot_take_is_refused(pool):
    net = timm.create_model("mambavision_nano")
    with pytest.raises(ValueError, match=r"global_pool=.*choose"):
        net.reset_classifier(5, pool)
    assert net.get_classifier().out_features == net.num_classes == 1000
    with pytest.raises(ValueError, match="num_classes=1000; choose global_pool='avg' or num"):
        timm.create_model("mambavision_nano", global_pool="")


def test_maps_of_the_stages_need_no_pooling():
    net = timm.create_model("mambavision_nano", features_only=True, global_pool="")
    assert [x.shape for x in net(torch.randn(1, 3, 32, 32))] == [(1, 96, 8, 8)] * 4


def assert_maps_fit(maps, info):
    assert len(maps) == len(info.channels()) >= 3
    for x, channels, reduction in zip(maps, info.channels(), info.reduction(), strict=True):
        side = math.ceil(SIZE / reduction)
        assert x.shape == (1, channels, side, side)
        assert_no_nan(x)


def test_feature_extractor_gives_the_maps_of_its_info(make):
    net = make(features_only=True)
    assert_maps_fit(net(torch.randn(1, 3, SIZE, SIZE)), net.feature_info)


def test_intermediates_end_in_the_features(make):
    net, x = make(), torch.randn(1, 3, SIZE, SIZE)
    features, maps = net.forward_intermediates(x, output_fmt="NCHW")
    assert_maps_fit(maps, FeatureInfo(net.feature_info, len(net.feature_info)))
    expected = net.forward_features(x)
    assert features.shape == expected.shape
    assert features.is_meta or torch.allclose(features, expected)
    net.set_grad_checkpointing()
    assert_equal(net.forward_intermediates(x)[0], features)


def traced(net):
    """Trace a network with torch.fx as timm does, for training and for evaluation."""
    options = {
        "leaf_modules": get_notrace_modules(),
        "autowrap_functions": get_notrace_functions(),
        "param_shapes_constant": True,
    }
    train, evaluation = get_graph_node_names(net, tracer_kwargs=options)
    return create_feature_extractor(
        net,
        train_return_nodes={train[-1]: "y"},
        eval_return_nodes={evaluation[-1]: "y"},
        tracer_kwargs=options,
    )


def test_fx_graph_gives_the_same(make):
    net, x = make(), torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = net(x)
        assert_equal(traced(net)(x)["y"], expected)


def test_fx_graph_trains_every_parameter(make):
    graph = traced(make(num_classes=42, drop_path_rate=0.1)).train()
    y = graph(torch.randn(2, 3, SIZE, SIZE))["y"]
    y.mean().backward()
    assert y.shape == (2, 42)
    assert_all_have_gradients(graph)


def test_fx_nodes_are_named_after_our_modules():
    net = timm.create_model("mambavision_t", clamp_windows=True).eval()
    extractor = timm.models.create_feature_extractor(net, ["levels.2.join_windows", "norm"])
    maps = extractor(torch.randn(1, 3, SIZE, SIZE))
    assert [tuple(x.shape) for x in maps.values()] == [(1, 320, 4, 4), (1, 640, 2, 2)]


@pytest.mark.parametrize("img_size", [96, (96, 96), (64, 96)])
def test_image_size_reaches_the_network(img_size, make, variant):
    net = make(img_size)
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    assert net(torch.randn(1, 3, height, width)).shape == (1, 1000)
    if is_tokens(variant):
        assert net.pos_embed.shape[2:] == (height // net.patch_size, width // net.patch_size)


def test_input_size_can_be_set_afterwards(make, variant):
    net, x = make(), torch.randn(1, 3, 96, 128)
    expected = net(x)  # with an embedding that is interpolated in the forward pass
    keys = list(net.state_dict())
    net.set_input_size(img_size=(96, 128))
    assert_equal(net(x), expected)
    assert list(net.state_dict()) == keys
    assert all(p.requires_grad for p in net.parameters())
    if is_tokens(variant):
        assert net.pos_embed.shape[2:] == (96 // net.patch_size, 128 // net.patch_size)
        with pytest.raises(ValueError, match="both sides must be multiples of the patch size"):
            net.set_input_size(97)


@pytest.mark.parametrize("name", ["mambavision_nano", "mambavision_t"])
def test_network_returns_from_a_folder_that_timm_saved(name, tmp_path):
    net = timm.create_model(name, num_classes=5, in_chans=4, img_size=64).eval()
    net.set_input_size(img_size=(64, 96))
    net.reset_classifier(3)
    assert resolve_data_config(model=net)["input_size"][1:] == (net.default_cfg["input_size"])[1:]
    timm.models.save_for_hf(net, tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(1, 4, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(x), net(x))
