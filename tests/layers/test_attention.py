import pytest
import torch
from tolerances import assert_close

from mambavision_lab.layers.attention import Attention


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_attention_matches_softmax_formula(qkv_bias):
    attention = Attention(12, num_heads=3, qkv_bias=qkv_bias).double()
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    query, key, value = attention.qkv(x).split(12, dim=2)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(query[..., part] @ key[..., part].mT / 4**0.5, dim=2)
        heads.append(weights @ value[..., part])
    assert_close(attention(x), attention.proj(torch.cat(heads, dim=2)), torch.float64)
    assert (attention.qkv.bias is None) is not qkv_bias


@pytest.mark.parametrize("name", ["attn_drop", "proj_drop"])
def test_attention_drops_out_in_training_only(name):
    attention = Attention(12, num_heads=3, **{name: 0.5})
    plain = Attention(12, num_heads=3)
    plain.load_state_dict(attention.state_dict())
    x = torch.randn(2, 7, 12)
    assert not torch.allclose(attention(x), plain(x), atol=1e-3)
    assert torch.equal(attention.eval()(x), plain.eval()(x))


def test_attention_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="num_heads=5 does not divide the width 12"):
        Attention(12, num_heads=5)


def test_attention_in_bfloat16_has_the_gradients_of_float32():
    torch.manual_seed(0)
    attention, x = Attention(32, num_heads=4), torch.randn(3, 9, 32, requires_grad=True)
    (expected,) = torch.autograd.grad(attention(x).square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        y = attention(x)
    (found,) = torch.autograd.grad(y.float().square().sum(), x)
    assert y.dtype == torch.bfloat16
    assert torch.linalg.vector_norm(found - expected) < 0.02 * torch.linalg.vector_norm(expected)
