import copy
import json

import pytest
import torch
import torch.nn.functional as F
from golden.hierarchical_cases import CASES, FOLDER, MICRO, deviations, make_images
from golden.hierarchical_cases import make_net as make_golden_net
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tolerances import GOLDEN, GOLDEN_GRAD, GOLDEN_MICRO, assert_close
from toys import HIERARCHICAL_TOY

from mambavision_lab.files import configs_folder
from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.models.create import create_mambavision
from mambavision_lab.models.hierarchical import MambaVision

SHAPES = json.loads((FOLDER / "state_dict_shapes.json").read_text())


def make_toy(**options):
    return MambaVision(**{**HIERARCHICAL_TOY, **options})


def make_variant(name, **options):
    config = OmegaConf.load(configs_folder() / "model" / "nvidia" / f"mambavision_{name}.yaml")
    config.update({"num_classes": 1000, "in_chans": 3, "scan_backend": "auto"})
    with torch.device("meta"):
        return instantiate(config, **options)


def check_deviations(case, net):
    found = dict(deviations(case, net))
    tolerance = GOLDEN_MICRO if case in MICRO else GOLDEN
    for name, deviation in found.items():
        assert deviation < (GOLDEN_GRAD if name.startswith("grad ") else tolerance), name
    return set(found)


# The published network.


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("case", MICRO)
def test_micro_network_matches_golden_outputs_and_gradients(case, backend):
    found = check_deviations(case, make_golden_net(case, scan_backend=backend))
    assert found == {
        *("patch_embed", "stage1", "stage2", "stage3", "stage4", "pooled", "logits"),
        *("loss", "grad norms, relative", "grad sums / norms"),
    }


def test_published_tiny_matches_golden_outputs():
    net = make_golden_net("T_224x224")
    for case in ("T_224x224", "T_200x264"):
        assert check_deviations(case, net) == {"pooled", "logits"}


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case not in MICRO])
def test_published_tiny_matches_golden_outputs_with_the_reference_scan(case):
    check_deviations(case, make_golden_net(case, scan_backend="reference"))


@pytest.mark.parametrize("variant", SHAPES)
def test_state_dict_has_the_published_keys_and_shapes(variant):
    net = make_variant(variant.lower())
    published = SHAPES[variant]["state_dict"]
    assert {key: list(x.shape) for key, x in net.state_dict().items()} == published
    assert sum(p.numel() for p in net.parameters()) == SHAPES[variant]["num_parameters"]


@pytest.mark.parametrize("variant", ["l2", "l3"])
def test_larger_images_change_the_windows_alone(variant):
    small, large = make_variant(variant), make_variant(f"{variant}_512")
    assert repr(small) == repr(large)
    assert [level.window_size for level in large.levels] == [None, None, 32, 16]


def test_stages_mix_with_mamba_first_rounded_up():
    kinds = [type(block.mixer) for block in make_toy().levels[2].blocks]
    assert kinds == [MambaVisionMixer, MambaVisionMixer, Attention]


# Sizes of images.


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 33), (4, 4), (5, 131)])
def test_net_takes_any_size_and_rounds_each_stage_up(height, width):
    net = make_toy().eval()
    maps = net.forward_stages(torch.randn(2, 3, height, width))
    for i, x in enumerate(maps):
        stride = 4 * 2**i
        assert x.shape == (2, 4 * 2**i, -(-height // stride), -(-width // stride))
    assert net(torch.randn(2, 3, height, width)).isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(3, 64), (64, 1)])
def test_net_refuses_images_smaller_than_its_stride(height, width):
    with pytest.raises(
        ValueError, match=rf"image of {height} x {width} pixels: both sides must be"
    ):
        make_toy()(torch.randn(1, 3, height, width))


def test_padding_takes_part_in_mixing():
    net = make_toy(mamba_ratio=0).eval()
    x = torch.randn(1, 16, 3, 3)
    alone = make_toy(mamba_ratio=0, window_size=(8, 8, 3, 2)).eval()
    alone.load_state_dict(net.state_dict())
    assert not torch.allclose(net.levels[2](x), alone.levels[2](x), atol=1e-4)
    padded = F.pad(x, (0, 1, 0, 1))
    assert_close(net.levels[2](x), net.levels[2](padded)[:, :, :3, :3], torch.float32)


def test_clamped_windows_mix_the_map_without_padding():
    options = {"window_size": (8, 8, 14, 7)}
    clamped = make_toy(**options, clamp_windows=True).eval()
    fitting = make_toy(window_size=(8, 8, 5, 3)).eval()
    fitting.load_state_dict(clamped.state_dict())
    x = torch.randn(2, 3, 80, 80)  # maps of 5 and 3 tokens a side
    assert_close(clamped(x), fitting(x), torch.float32)
    published = make_toy(**options).eval()
    published.load_state_dict(clamped.state_dict())
    large = torch.randn(1, 3, 224, 224)  # whose maps are as large as the windows
    assert_close(clamped(large), published(large), torch.float32)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_stem_of_lower_stride_keeps_the_weights(stride):
    net = make_toy(stem_stride=stride).eval()
    net.load_state_dict(make_toy().state_dict())
    sides = [x.shape[-1] for x in net.forward_stages(torch.randn(1, 3, 32, 32))]
    assert sides == [32 // stride // 2**i for i in range(4)]


# Options.


@pytest.mark.parametrize(
    ("mamba_ratio", "pattern", "expected"),
    [
        (0, "mamba_first", ["AAA", "AA"]),
        (1.0, "mamba_first", ["MMM", "MM"]),
        ([1, 0], "mamba_first", ["MMM", "AA"]),
        (None, "alternating", ["MMA", "MA"]),
        (None, ["alternating", "mamba_first"], ["MMA", "MA"]),
        ([0.34, 0.5], ["mamba_first", "alternating"], ["MAA", "MA"]),
    ],
)
def test_blocks_follow_ratio_and_pattern_of_their_stage(mamba_ratio, pattern, expected):
    net = make_toy(mamba_ratio=mamba_ratio, pattern=pattern)
    kinds = [
        "".join("M" if isinstance(b.mixer, MambaVisionMixer) else "A" for b in level.blocks)
        for level in net.levels[2:]
    ]
    assert kinds == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": [1, 1]}, r"depths=\[1, 1\] must have one value for each of 4 stages"),
        ({"mamba_ratio": [0.5] * 4}, "one value or two"),
        ({"mamba_ratio": 2}, "mamba_ratio=2 must lie between 0 and 1"),
        ({"stem_stride": 3}, r"stem_stride=3 is not possible; choose one of \(4, 2, 1\)"),
        ({"num_heads": (1, 1, 3, 3)}, "num_heads=3 does not divide the width 16"),
    ],
)
def test_net_refuses_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        make_toy(**options)


def test_drop_path_rises_linearly_over_all_blocks():
    net = make_toy(drop_path_rate=0.6)
    blocks = [block for level in net.levels for block in level.blocks]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize("rate", ["drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_net_is_random_in_training_only(rate):
    net, x = make_toy(**{rate: 0.5}), torch.randn(8, 3, 64, 64)
    assert not torch.allclose(net(x), net(x), atol=1e-5)
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(
    "options",
    [{}, {"layer_scale": 0.1, "layer_scale_conv": 0.1}, {"bidirectional": True}],
    ids=["published", "layer scale", "bidirectional"],
)
def test_every_parameter_receives_a_finite_gradient(options):
    net = make_toy(**options)
    F.cross_entropy(net(torch.randn(4, 3, 64, 64)), torch.tensor([0, 1, 2, 0])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_checkpointing_changes_neither_outputs_nor_gradients():
    x, results = torch.randn(4, 3, 32, 32), []
    plain = make_toy(drop_rate=0.2, drop_path_rate=0.2)
    recomputing = make_toy(drop_rate=0.2, drop_path_rate=0.2, use_checkpointing=True)
    recomputing.load_state_dict(plain.state_dict())
    calls = []
    recomputing.levels[2].blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for net in (plain, recomputing):
        torch.manual_seed(1)
        y = net(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), list(net.parameters()))])
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected, torch.float32)
    assert len(calls) == 2


# Copies.


def test_exported_and_compiled_nets_give_equal_outputs():
    net, x = make_toy(depths=(1, 1, 2, 1)).eval(), torch.randn(2, 3, 40, 64)
    expected = net(x)
    sizes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(net.requires_grad_(False), (x,), dynamic_shapes=sizes).module()
    assert_close(exported(x), expected, torch.float32)
    assert exported(torch.randn(5, 3, 40, 64)).shape == (5, 3)
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")
    assert_close(compiled(x), expected, torch.float32)


def test_channels_last_changes_nothing():
    net = make_golden_net("micro").to(memory_format=torch.channels_last)
    images = make_images("micro").to(memory_format=torch.channels_last)
    expected = make_golden_net("micro")(make_images("micro"))
    assert_close(net(images), expected, torch.float32)


# The network for small images.


@pytest.mark.parametrize(
    ("in_chans", "size", "sides", "num_parameters"),
    [(1, 28, [14, 7, 4, 2], 961_234), (3, 32, [16, 8, 4, 2], 961_666)],
)
def test_micro_variant_has_maps_for_small_images_and_under_a_million_weights(
    in_chans, size, sides, num_parameters
):
    with torch.device("meta"):
        net = create_mambavision("mambavision_micro", 10, in_chans=in_chans)
        maps = net.forward_stages(torch.zeros(2, in_chans, size, size))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (24 * 2**i, side, side) for i, side in enumerate(sides)
    ]
    assert sum(p.numel() for p in net.parameters()) == num_parameters


def test_micro_variant_pads_no_window():
    net = create_mambavision("mambavision_micro", 10, in_chans=1).eval()
    lengths = []
    for block in (net.levels[2].blocks[0], net.levels[3].blocks[0]):
        block.register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[1]))
    assert net(torch.randn(2, 1, 28, 28)).isfinite().all()
    assert lengths == [16, 4]
