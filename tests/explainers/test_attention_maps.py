"""Attention weights against float64 softmax, rollout against products by hand, other networks' attention."""

import pytest
import torch
from toys import HIERARCHICAL_TOY

from mambavision_lab.explainers import attention, rollout
from mambavision_lab.explainers.base import to_image
from mambavision_lab.explainers.calls import ScanCall
from mambavision_lab.explainers.methods import explain, explain_all
from mambavision_lab.explainers.record import record
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.timm_classifier import timm_classifier


def exact(block, x):
    """Return softmax(QK) of a block in float64, (batch, heads, length, length)."""
    mixer = block.mixer.double()
    batch, length, dim = x.shape
    qkv = mixer.qkv(block.norm1.double()(x.double()))
    qkv = qkv.view(batch, length, 3, mixer.num_heads, dim // mixer.num_heads)
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-2, -1) / (dim // mixer.num_heads) ** 0.5
    return scores.softmax(dim=-1)


def test_attention_rows_equal_softmax_in_float64_and_sum_to_1(make_net):
    net = make_net(mamba_ratio=0, depth=1).eval()
    torch.nn.init.normal_(net.blocks[0].mixer.qkv.weight)
    image = torch.randn(1, 2, 16, 16)
    embedded = []
    hook = net.blocks[0].register_forward_pre_hook(lambda block, inputs: embedded.append(inputs[0]))
    (call,) = record(net, image).attention
    hook.remove()
    weights = exact(net.blocks[0], embedded[0])
    torch.testing.assert_close(call.weights().double(), weights, atol=1e-6, rtol=0)
    row = attention.row(call, (2, 1)).flatten(1)
    torch.testing.assert_close(row.double(), weights[0, :, 9], atol=1e-6, rtol=0)
    torch.testing.assert_close(row.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(
        attention.head_maps(call).flatten(1).double(), weights[0].mean(dim=1), atol=1e-6, rtol=0
    )


def test_rollout_is_the_product_by_hand(make_net):
    net = make_net(mamba_ratio=0, depth=3).eval()
    image = torch.randn(1, 2, 16, 16)
    product = torch.eye(16)
    for call in record(net, image).attention:
        product = (0.5 * torch.eye(16) + 0.5 * call.weights()[0].mean(dim=0)) @ product
    found = explain(net, image, "rollout", 0)
    expected = to_image(product.mean(dim=0).view(4, 4), image)
    torch.testing.assert_close(found.map, expected)


def test_rollout_through_mixers_keeps_the_sum_and_the_order(make_net):
    net = make_net(depth=4).eval()
    for call in record(net, torch.randn(1, 2, 16, 16)).calls:
        values = torch.zeros(1, 16)
        values[0, 5] = 1
        passed = rollout.through(call, values)
        assert passed.sum() == pytest.approx(1, abs=1e-5)
        if isinstance(call, ScanCall):
            assert not passed[0, 6:].any()  # a forward scan takes nothing from later tokens


def test_windows_are_put_back_and_their_padding_is_named():
    net = MambaVision(**HIERARCHICAL_TOY).eval()
    image = torch.randn(1, 3, 96, 80)
    found = explain(net, image, "attention", 0)
    assert found.map.shape == (96, 80)
    assert "are padding" in found.notes[0]
    call = record(net, image).attention[0]
    row = attention.row(call, (5, 4)).sum(dim=0)  # in the last window, rows 4 and 5, column 4
    assert row.nonzero().tolist() == [[4, 4], [5, 4]]


def test_attention_of_a_network_of_timm_is_that_of_its_unfused_blocks():
    net = timm_classifier(name="vit_tiny_patch16_224", num_classes=2, image_size=32).eval()
    image = torch.randn(1, 3, 32, 32)
    call = record(net, image).attention[0]
    assert (call.name, call.layout.num_prefix) == ("blocks.0.attn", 1)
    kept = []
    block = net.blocks[0].attn
    block.fused_attn = False
    block.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        net(image)
    torch.testing.assert_close(call.weights(), kept[0])


def test_attention_of_shifted_windows_lies_where_its_tokens_are():
    net = timm_classifier(name="swin_s3_tiny_224", num_classes=2, image_size=64).eval()
    image = torch.randn(1, 3, 64, 64)
    seen = record(net, image)
    with torch.no_grad():
        torch.testing.assert_close(net(image), seen.logits)
    call = seen.attention[1]  # a map of 16 x 16, in rolled windows
    assert call.name == "layers.0.blocks.1.attn"
    assert call.layout.shift == (3, 3)
    place = (4, 5)
    sequence, position = call.layout.find(*place)
    row = attention.row(call, place).sum(dim=0)
    torch.testing.assert_close(row[place], call.weights()[sequence, :, position, position].sum())
    assert row.nonzero().amin(dim=0).tolist() == [3, 3]  # one window: rows 3 to 9, columns 3 to 9
    assert row.nonzero().amax(dim=0).tolist() == [9, 9]


def test_methods_share_one_run_of_the_network(make_net):
    net, runs = make_net().eval(), []
    net.blocks[0].register_forward_hook(lambda *_: runs.append(1))
    image = torch.randn(1, 2, 16, 16)
    found = explain_all(net, image, ["attention", "scan", "rollout"], target=0)
    assert len(runs) == 1
    torch.testing.assert_close(found["rollout"].map, explain(net, image, "rollout", 0).map)


def test_recording_leaves_the_network_as_it_was(make_net):
    net = make_net().eval()
    before = net(torch.ones(1, 2, 16, 16))
    mixer = net.blocks[0].mixer
    record(net, torch.randn(1, 2, 16, 16))
    assert "scan" not in vars(mixer)
    assert not mixer._forward_hooks
    torch.testing.assert_close(net(torch.ones(1, 2, 16, 16)), before)


def test_explaining_nan_is_refused(make_net, refusal):
    net = make_net().eval()
    torch.nn.init.constant_(net.blocks[0].norm1.weight, float("nan"))
    for method in ("attention", "scan", "rollout", "gradcam", "eigencam", "input_x_gradient"):
        message = refusal(lambda method=method: explain(net, torch.randn(1, 2, 16, 16), method))
        assert "NaN" in message


def test_unknown_method_and_class_are_refused(make_net, refusal):
    net, image = make_net().eval(), torch.randn(1, 2, 16, 16)
    assert "did you mean rollout" in refusal(lambda: explain(net, image, "rolout"))
    assert "classes 0 to 2" in refusal(lambda: explain(net, image, "scan", target=3))
    assert "volumes" in refusal(lambda: explain(net, image[:, :, None], "gradcam"))
    no_attention = make_net(mamba_ratio=1).eval()
    assert "no attention" in refusal(lambda: explain(no_attention, image, "attention"))
