import copy

import pytest
import torch
import torch.nn.functional as F
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from tolerances import assert_close
from torch import nn
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.models.backbone import FeatureExtractor, take_indices
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision

MAKERS = {
    "plain": lambda **options: PlainMambaVision(
        **{**TOY_OPTIONS, "in_chans": 3, "depth": 4, **options}
    ),
    "hierarchical": lambda **options: MambaVision(**{**HIERARCHICAL_TOY, **options}),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 48)


# Heads.


def test_reset_classifier_replaces_the_head(make, images):
    net = make().eval()
    before = net.forward_head(net.forward_features(images), pre_logits=True)
    net.reset_classifier(5)
    assert net.num_classes == net.get_classifier().out_features == 5
    assert net(images).shape == (2, 5)
    assert_close(net(images), net.head(before), torch.float32)
    net.reset_classifier(0)
    assert isinstance(net.get_classifier(), nn.Identity)
    assert net(images).shape == (2, net.num_features)
    assert_close(net(images), before, torch.float32)
    net.reset_classifier(3)
    assert net.head.weight.std() < 0.04


# Maps.


def test_maps_have_the_strides_of_the_hierarchical_network(images):
    net = FeatureExtractor(MAKERS["hierarchical"]().eval())
    assert [info["reduction"] for info in net.feature_info] == [4, 8, 16, 32]
    assert [info["num_chs"] for info in net.feature_info] == [4, 8, 16, 32]
    assert [tuple(x.shape) for x in net(images)] == [
        *((2, 4, 8, 12), (2, 8, 4, 6), (2, 16, 2, 3), (2, 32, 1, 2))
    ]


def test_maps_have_the_one_stride_of_the_plain_network(images):
    net = FeatureExtractor(MAKERS["plain"]().eval(), (1, 3))
    assert [(i["reduction"], i["num_chs"], i["module"]) for i in net.feature_info] == [
        *((4, 8, "blocks.1"), (4, 8, "blocks.3")),
    ]
    assert [tuple(x.shape) for x in net(images)] == [(2, 8, 8, 12)] * 2


def test_maps_are_what_the_named_modules_give(make, images):
    net, seen = make().eval(), {}
    for i, info in enumerate(net.feature_info):
        net.get_submodule(info["module"]).register_forward_hook(
            lambda module, inputs, output, i=i: seen.__setitem__(i, output)
        )
    features, maps = net.forward_intermediates(images)
    for i, x in enumerate(maps):
        expected = seen[i] if seen[i].ndim == 4 else seen[i].mT.reshape(x.shape)
        assert_close(x, expected, torch.float32)
    assert_close(features, net.forward_features(images), torch.float32)
    last = net.forward_intermediates(images, [-1], norm=True, intermediates_only=True)[0]
    assert_close(last.flatten(2).mean(2), net.forward_head(features, True), torch.float32)


@pytest.mark.parametrize("out_indices", [(0,), (1, 2), (-2,), (2, 0), None])
def test_extractor_drops_what_its_maps_do_not_need(out_indices, make, images):
    net = make().eval()
    expected = net.forward_intermediates(images, out_indices, intermediates_only=True)
    extractor = FeatureExtractor(copy.deepcopy(net), out_indices)
    maps = extractor(images)
    assert len(maps) == len(extractor.feature_info) == len(expected)
    for actual, wanted, info in zip(maps, expected, extractor.feature_info, strict=True):
        assert torch.equal(actual, wanted)
        assert wanted.shape[1] == info["num_chs"]
        assert wanted.shape[2] == images.shape[2] // info["reduction"]
    sum(x.square().sum() for x in maps).backward()
    assert all(parameter.grad is not None for parameter in extractor.parameters())


@pytest.mark.parametrize("out_indices", [(4,), (0, -5), (), 5, 0])
def test_indices_out_of_range_are_refused(out_indices, make):
    with pytest.raises(
        ValueError, match=r"out_indices=.* is out of range: there are 4 maps, 0 to 3"
    ):
        FeatureExtractor(make(), out_indices)


def test_take_indices_counts_as_timm_does():
    assert take_indices(4, None) == [0, 1, 2, 3]
    assert take_indices(4, 2) == [2, 3]
    assert take_indices(4, [-1, 0]) == [3, 0]


def test_intermediates_refuse_another_format(make, images):
    with pytest.raises(ValueError, match="output_fmt='NLC' is unknown; choose 'NCHW'"):
        make().forward_intermediates(images, output_fmt="NLC")


# Fine-tuning.


@pytest.mark.parametrize("num_stages", [None, 0, 2, 4])
def test_frozen_parts_do_not_change_in_training(num_stages, make, images):
    net = make(drop_path_rate=0.1)
    net.freeze(num_stages)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net.train()
    F.cross_entropy(net(images), torch.tensor([0, 1])).backward()
    optimizer.step()
    changed = {key for key, x in net.state_dict().items() if not torch.equal(x, before[key])}
    head = {"head.weight", "head.bias"}
    assert head <= changed
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    for key in set(before) - head:
        top, _, rest = key.partition(".")
        is_first = top in ("stem", "patch_embed", "pos_embed")
        if top in ("blocks", "levels") and num_stages is not None:
            is_first = int(rest.partition(".")[0]) < num_stages
        if is_first or num_stages is None:
            assert key not in changed | trained
        elif key.endswith(("weight", "bias")):
            assert key in trained
    net.unfreeze()
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("num_stages", [-1, 5])
def test_freeze_refuses_more_stages_than_there_are(num_stages, make):
    with pytest.raises(ValueError, match=rf"num_stages={num_stages}: \w+ has 0 to 4"):
        make().freeze(num_stages)


@pytest.mark.parametrize(
    ("family", "coarse", "num_layers"),
    [
        ("plain", False, 6),
        ("plain", True, 6),
        ("hierarchical", False, 9),
        ("hierarchical", True, 6),
    ],
)
def test_layers_run_from_the_stem_to_the_head(family, coarse, num_layers):
    net = MAKERS[family]()
    layers = group_parameters(net, net.group_matcher(coarse), reverse=True)
    assert set(layers) == {name for name, _ in net.named_parameters()}
    assert set(layers.values()) == set(range(num_layers))
    depth = {name: layers[name] for name in layers}
    assert {depth[n] for n in depth if n.startswith(("stem", "pos_embed", "patch_embed"))} == {0}
    assert depth["norm.weight"] == num_layers - 2
    assert depth["head.weight"] == num_layers - 1
    modules = [n for n in depth if n.startswith(("blocks", "levels"))]
    assert [depth[n] for n in modules] == sorted(depth[n] for n in modules)


def test_layer_decay_scales_every_layer(make):
    net = make()
    groups = param_groups_layer_decay(net, 0.05, net.no_weight_decay(), layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scale) == len(list(net.parameters()))
    assert scale[id(net.head.weight)] == 1
    assert scale[id(net.norm.weight)] == 0.5
    first = [p for name, p in net.named_parameters() if name.startswith(("stem", "patch_embed"))]
    assert {scale[id(p)] for p in first} == {min(scale.values())}


@pytest.mark.parametrize("enable", [True, False])
def test_checkpointing_can_be_switched_as_timm_does(enable, make, images):
    net, calls = make(use_checkpointing=not enable), []
    net.set_grad_checkpointing(enable)
    last = net.stages()[-1]
    block = last.blocks[-1] if hasattr(last, "blocks") else last
    block.register_forward_pre_hook(lambda *_: calls.append(1))
    net(images).sum().backward()
    assert len(calls) == 1 + enable  # again in the backward pass


# Initialisation.


def test_published_initialisation_overwrites_the_step_sizes(make):
    net = make(init="published")
    linears = {n: m for n, m in net.named_modules() if isinstance(m, nn.Linear)}
    assert any(name.endswith("dt_proj") for name in linears)
    for name, linear in linears.items():
        assert linear.weight.std() < 0.05, name
        assert linear.bias is None or not linear.bias.any(), name
    with pytest.raises(ValueError, match="init='xavier' is unknown; choose 'mamba' or 'published'"):
        make(init="xavier")


def test_bidirectional_network_has_the_same_weights(make, images):
    one, both = make(), make(bidirectional=True)
    state = {key: torch.rand(x.shape) for key, x in one.state_dict().items()}
    for net in (one.eval(), both.eval()):
        net.load_state_dict(state)
    assert not torch.allclose(one(images), both(images), rtol=1e-3)
