import copy
import io
import pickle
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.make_plain_toy import CASES, FILE
from golden.make_plain_toy import make_net as make_golden_net
from golden.make_plain_toy import outputs as golden_outputs
from tolerances import assert_close

from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.models.plain import default_patch_size, mamba_blocks
from mambavision_lab.ops.selective_scan import available_backends


def interpolate(pos_embed, *grid):
    return F.interpolate(pos_embed, grid, mode="bicubic", antialias=True, align_corners=False)


# Which blocks there are.


@pytest.mark.parametrize("pattern", ["alternating", "mamba_first"])
@pytest.mark.parametrize("mamba_ratio", [0, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 1])
def test_mamba_blocks_are_as_many_as_the_ratio_says(mamba_ratio, pattern):
    for depth in range(1, 25):
        blocks = mamba_blocks(depth, mamba_ratio, pattern)
        count = round(mamba_ratio * depth)
        assert len(blocks) == depth
        assert sum(blocks) == count
        if pattern == "mamba_first":
            assert blocks == [True] * count + [False] * (depth - count)
            continue
        # Alternating: evenly spread, so that any two equal stretches differ by one at most.
        for length in range(1, depth):
            counts = [sum(blocks[i : i + length]) for i in range(depth - length + 1)]
            assert max(counts) - min(counts) <= 1
        assert blocks[0] == (count > 0)


def test_mamba_blocks_alternate_at_one_half():
    assert mamba_blocks(6, 0.5, "alternating") == [True, False] * 3


@pytest.mark.parametrize(
    ("mamba_ratio", "pattern", "message"),
    [
        (1.5, "alternating", r"mamba_ratio=1.5 must lie between 0 and 1"),
        (-0.1, "mamba_first", r"mamba_ratio=-0.1 must lie between 0 and 1"),
        (0.5, "random", r"pattern='random' is unknown; choose 'alternating' or 'mamba_first'"),
    ],
)
def test_mamba_blocks_refuse_what_they_do_not_know(mamba_ratio, pattern, message):
    with pytest.raises(ValueError, match=message):
        mamba_blocks(4, mamba_ratio, pattern)


def test_net_mixes_as_its_pattern_says(make_net):
    net = make_net(depth=4, mamba_ratio=0.75, pattern="mamba_first", d_state=3, d_conv=5, expand=3)
    mixers = [block.mixer for block in net.blocks]
    assert [type(mixer) for mixer in mixers] == [MambaVisionMixer] * 3 + [Attention]
    assert mixers[0].conv1d_x.weight.shape == (12, 1, 5)
    assert mixers[0].A_log.shape == (12, 3)
    assert mixers[3].num_heads == 2


def test_net_starts_with_the_step_sizes_of_mamba(make_net):
    mixer = make_net(embed_dim=128).blocks[0].mixer
    step = F.softplus(mixer.dt_proj.bias)
    assert 0.00099 < step.min() < 0.003 < 0.03 < step.max() < 0.1001
    assert mixer.dt_proj.weight.abs().max() > 0.9 * mixer.dt_rank**-0.5
    assert mixer.in_proj.weight.std().item() == pytest.approx(0.02, rel=0.1)


# Image sizes and the position embedding.


@pytest.mark.parametrize(
    ("image_size", "patch_size"),
    [
        (224, 16),
        (256, 16),
        (112, 16),
        (96, 8),
        (64, 8),
        (32, 4),
        (28, 4),
        (14, 2),
        (8, 1),
        (225, 1),
    ],
)
def test_patch_size_follows_the_image(image_size, patch_size, make_net):
    assert default_patch_size(image_size) == patch_size
    with torch.device("meta"):
        net = make_net(image_size=image_size, patch_size=None)
    assert net.patch_size == patch_size
    assert net.pos_embed.shape[2:] == (image_size // patch_size,) * 2


def test_net_takes_tiny_images(make_net):
    net = make_net(image_size=8, patch_size=None)
    assert net(torch.randn(2, 2, 8, 8)).isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 24), (4, 4), (32, 12)])
def test_net_takes_any_multiple_of_the_patch_size(height, width, make_net):
    net = make_net().eval()
    x = torch.randn(2, 2, height, width)
    grid = (height // 4, width // 4)
    pos_embed = net.pos_embed if grid == (4, 4) else interpolate(net.pos_embed, *grid)
    tokens = (net.stem(x) + pos_embed).flatten(2).mT
    for block in net.blocks:
        tokens = block(tokens)
    tokens = F.layer_norm(tokens, (8,), net.norm.weight, net.norm.bias)
    assert tokens.shape == (2, grid[0] * grid[1], 8)
    assert_close(net.forward_features(x), tokens, torch.float32)
    assert_close(net(x), net.head(tokens.mean(1)), torch.float32)


def test_tokens_run_along_rows(make_net):
    net = make_net(depth=0).eval()
    x = torch.randn(1, 2, 8, 12)
    tokens = (net.stem(x) + interpolate(net.pos_embed, 2, 3))[0]
    assert_close(net.forward_features(x)[0, 4], net.norm(tokens[:, 1, 1]), torch.float32)


@pytest.mark.parametrize(
    ("height", "width", "below", "above"),
    [(18, 16, "16 x 16", "20 x 16"), (16, 23, "16 x 20", "16 x 24"), (3, 9, "4 x 8", "4 x 12")],
)
def test_net_names_the_next_sizes_that_fit(height, width, below, above, make_net):
    message = (
        rf"image of {height} x {width} pixels: both sides must be multiples of the patch size 4; "
        rf"the next sizes that fit are {below} and {above}"
    )
    with pytest.raises(ValueError, match=message):
        make_net()(torch.randn(1, 2, height, width))


def test_net_refuses_an_image_size_that_its_patch_does_not_divide(make_net):
    with pytest.raises(ValueError, match="image of 30 x 30 pixels"):
        make_net(image_size=30)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"image_size": 224, "patch_size": None}, {"image_size": 256, "patch_size": None}),
        ({"image_size": 32, "patch_size": 4}, {"image_size": 32, "patch_size": 8}),
        ({"image_size": 16, "patch_size": 4}, {"image_size": 32, "patch_size": 8}),
    ],
    ids=["larger image", "larger patch", "same grid"],
)
def test_loading_interpolates_the_position_embedding(old, new, make_net):
    source, target = make_net(**old), make_net(**new)
    state = source.state_dict()
    target.load_state_dict(state)
    grid = target.pos_embed.shape[2:]
    if grid == source.pos_embed.shape[2:]:
        assert torch.equal(target.pos_embed, source.pos_embed)
    else:
        assert_close(target.pos_embed, interpolate(source.pos_embed, *grid), torch.float32)
    # All else is taken as it is, and what was handed over is left alone.
    loaded = target.state_dict()
    for name, x in source.state_dict().items():
        assert state[name].shape == x.shape
        assert name == "pos_embed" or torch.equal(loaded[name], x)


def test_larger_patch_after_loading_sees_the_same_tokens(make_net):
    source, target = make_net(depth=1), make_net(depth=1, image_size=32, patch_size=4)
    target.load_state_dict(source.state_dict())
    x = torch.randn(1, 2, 32, 32)
    assert_close(target.eval()(x), source.eval()(x), torch.float32)


def test_loading_refuses_a_position_embedding_of_another_width(make_net):
    with pytest.raises(RuntimeError, match="size mismatch for pos_embed"):
        make_net().load_state_dict(make_net(embed_dim=16).state_dict())


# What it computes.


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("case", CASES)
def test_plain_toy_matches_golden_outputs(case, backend):
    golden = np.load(FILE)
    for name, x in golden_outputs(case, make_golden_net(case, scan_backend=backend)).items():
        assert_close(x, torch.from_numpy(golden[f"{case}/{name}"]), torch.float32)


def test_head_pools_drops_and_classifies(make_net):
    net = make_net().eval()
    tokens = torch.randn(2, 5, 8)
    pooled = tokens.sum(1) / 5
    assert_close(net.forward_head(tokens, pre_logits=True), pooled, torch.float32)
    expected = pooled @ net.head.weight.T + net.head.bias
    assert_close(net.forward_head(tokens), expected, torch.float32)


def test_net_without_classes_returns_pooled_features(make_net):
    net = make_net(num_classes=0).eval()
    x = torch.randn(2, 2, 16, 16)
    assert net(x).shape == (2, 8)
    assert_close(net(x), net.forward_features(x).mean(1), torch.float32)
    assert not [name for name in net.state_dict() if name.startswith("head")]


@pytest.mark.parametrize("rate", ["drop_rate", "attn_drop_rate", "drop_path_rate"])
def test_net_is_random_in_training_only(rate, make_net):
    net, x = make_net(**{rate: 0.5}), torch.randn(8, 2, 16, 16)
    assert not torch.allclose(net(x), net(x), atol=1e-5)
    net.eval()
    assert torch.equal(net(x), net(x))
    plain = make_net()
    assert torch.equal(plain(x), plain(x))


def test_drop_path_rises_linearly(make_net):
    net = make_net(depth=5, drop_path_rate=0.4)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in net.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("mamba_ratio", [0, 0.5, 1])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_every_parameter_receives_a_finite_gradient(mamba_ratio, qkv_bias, make_net):
    net = make_net(mamba_ratio=mamba_ratio, qkv_bias=qkv_bias)
    F.cross_entropy(net(torch.randn(4, 2, 16, 16)), torch.tensor([0, 1, 2, 0])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_checkpointing_changes_neither_outputs_nor_gradients(make_net):
    plain = make_net(drop_rate=0.2, drop_path_rate=0.2)
    recomputing = make_net(drop_rate=0.2, drop_path_rate=0.2, use_checkpointing=True)
    recomputing.load_state_dict(plain.state_dict())
    calls = []
    recomputing.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    x, results = torch.randn(4, 2, 16, 16), []
    for net in (plain, recomputing):
        torch.manual_seed(1)
        y = net(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), list(net.parameters()))])
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected, torch.float32)
    assert len(calls) == 2  # in the forward pass, and again in the backward pass
    with torch.no_grad():
        recomputing(x)
    assert len(calls) == 3


# Copies.


def clone_by_state_dict(net, make_net):
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    clone = make_net().eval()
    clone.load_state_dict(torch.load(buffer, weights_only=True))
    return clone


@pytest.mark.parametrize(
    "clone",
    [
        lambda net, make_net: copy.deepcopy(net),
        lambda net, make_net: pickle.loads(pickle.dumps(net)),
        clone_by_state_dict,
    ],
    ids=["deepcopy", "pickle", "state dict"],
)
def test_clone_gives_equal_outputs_and_still_resizes_what_it_loads(clone, make_net):
    net, x = make_net().eval(), torch.randn(2, 2, 16, 16)
    expected = net(x)
    copied = clone(net, make_net)
    copied.load_state_dict(make_net(image_size=32).state_dict())
    assert copied.pos_embed.shape == (1, 8, 4, 4)
    assert not torch.equal(copied(x), expected)
    copied.load_state_dict(net.state_dict())
    assert torch.equal(copied(x), expected)


def test_exported_net_gives_equal_outputs(make_net):
    net, x = make_net().eval(), torch.randn(2, 2, 16, 16)
    exported = torch.export.export(net, (x,))
    assert_close(exported.module()(x), net(x), torch.float32)
    targets = {str(node.target) for node in exported.graph.nodes}
    assert "mambavision_lab.selective_scan_train.default" in targets


def test_exported_net_takes_any_batch(make_net):
    net = make_net().eval().requires_grad_(False)
    sizes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(net, (torch.randn(2, 2, 16, 16),), dynamic_shapes=sizes)
    for batch in (1, 5, 700):
        x = torch.randn(batch, 2, 16, 16)
        assert_close(exported.module()(x), net(x), torch.float32)


@pytest.mark.slow
def test_compiled_net_is_one_graph_and_gives_equal_outputs(make_net):
    net, x = make_net().eval(), torch.randn(2, 2, 16, 16)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), net(x), torch.float32)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler")
def test_net_compiled_by_inductor_trains_on_any_batch(make_net):
    net, x = make_net(), torch.randn(4, 2, 16, 16)
    compiled = torch.compile(net, fullgraph=True)
    torch._dynamo.mark_dynamic(x, 0)
    for batch in (x, torch.randn(3, 2, 16, 16), torch.randn(7, 2, 16, 16)):
        with torch._dynamo.config.patch(error_on_recompile=batch is not x):
            results = [
                (y, *torch.autograd.grad(y.square().sum(), [*net.parameters()]))
                for y in (compiled(batch), net(batch))
            ]
        for actual, expected in zip(*results, strict=True):
            assert_close(actual, expected, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_net_runs_in_other_dtypes(dtype, make_net):
    net, x = make_net().eval(), torch.randn(2, 2, 24, 8)
    expected = net(x)
    actual = net.to(dtype)(x.to(dtype))
    assert actual.dtype == dtype
    assert_close(actual.float(), expected, min(dtype, torch.float32, key=lambda d: d.itemsize))
