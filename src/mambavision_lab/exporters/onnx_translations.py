"""Translate operators to ONNX where the exporter has no translation, or a longer one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from onnxscript import FLOAT, graph, script
from onnxscript import opset18 as op
from onnxscript.ir import DataType
from onnxscript.values import Opset

_OWN = Opset("mambavision_lab", 1)


# Read by onnxscript as source: no Python runs in it. A Scan steps along the first axis, and
# (batch, d_state, dim) has the long axis last, which runtimes compute faster than the short. All of a
# step is in the loop: what all steps need at once, d_state times as large as u, would not fit a cache.
@script(_OWN, default_opset=op)
def scan(
    delta: FLOAT[...],
    u: FLOAT[...],
    A: FLOAT[...],
    B: FLOAT[...],
    C: FLOAT[...],
    into: Sequence[int],
    out: Sequence[int],
) -> FLOAT[...]:
    """Return C h; `into` and `out` give the directions of the loop's four inputs and of its output."""
    third = op.Constant(value_ints=[2])
    delta_lb1d = op.Unsqueeze(op.Transpose(delta, perm=[1, 0, 2]), third)
    product_lb1d = op.Unsqueeze(op.Transpose(op.Mul(delta, u), perm=[1, 0, 2]), third)
    B_lbn1 = op.Unsqueeze(op.Transpose(B, perm=[1, 0, 2]), [3])
    C_lb1n = op.Unsqueeze(op.Transpose(C, perm=[1, 0, 2]), third)
    rates_nd = op.Transpose(A, perm=[1, 0])
    # Not 0 * anything, which is NaN where that overflows.
    start_bnd = op.ConstantOfShape(
        op.Concat(op.Shape(delta, start=0, end=1), op.Shape(rates_nd), axis=0)
    )

    @graph()
    def step(
        state: FLOAT[...],
        delta_now: FLOAT[...],
        product_now: FLOAT[...],
        B_now: FLOAT[...],
        C_now: FLOAT[...],
    ):
        decay = op.Exp(op.Mul(delta_now, rates_nd))
        following = op.Add(op.Mul(decay, state), op.Mul(product_now, B_now))
        return following, op.MatMul(C_now, following)

    _, y_lb1d = op.Scan(
        start_bnd,
        delta_lb1d,
        product_lb1d,
        B_lbn1,
        C_lb1n,
        num_scan_inputs=4,
        scan_input_directions=into,
        scan_output_directions=out,
        body=step,
    )
    return op.Transpose(op.Squeeze(y_lb1d, third), perm=[1, 0, 2])


def selective_scan(
    u: Any,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any,
    delta_bias: Any,
    initial_state: Any,
    delta_softplus: bool,
    reverse: bool,
    backend: str,
) -> Any:
    """Translate our operator as the mixers use it: no state goes in, and none is taken out."""
    assert initial_state is None
    delta = delta if delta_bias is None else op.Add(delta, delta_bias)
    delta = op.Softplus(delta) if delta_softplus else delta
    y = scan(delta, u, A, B, C, into=[int(reverse)] * 4, out=[int(reverse)])
    y = y if D is None else op.Add(y, op.Mul(D, u))
    return y, op.Constant(value_float=0.0)  # in the last state's place; the optimizer drops it


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Any:
    """Translate attention over (batch, heads, length, width) in five nodes; the exporter's has a dozen."""
    if is_causal or enable_gqa:
        raise NotImplementedError("causal and grouped attention are not translated")
    factor = op.Constant(
        value_float=float(query.shape[-1]) ** -0.5 if scale is None else float(scale)
    )
    scores = op.MatMul(op.Mul(query, factor), op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None and attn_mask.dtype == DataType.BOOL:
        hidden = op.Constant(value_float=-math.inf)
        scores = op.Where(attn_mask, scores, hidden)
    elif attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


TABLE: dict[Any, Any] = {
    torch.ops.mambavision_lab.selective_scan.default: selective_scan,
    torch.ops.aten.scaled_dot_product_attention.default: attention,
}
