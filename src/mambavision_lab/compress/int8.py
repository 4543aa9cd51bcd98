"""Quantize ONNX files to 8 bits with ONNX Runtime, and leave layers alone until the metric is kept.

Convolutions, MatMul and Gemm with constant weights become int8, per channel; attention's products and the
scan stay in float32. "static" fixes the ranges of activations on calibration images (QDQ), "dynamic"
measures them in each call, for MatMul and Gemm alone.
"""

import contextlib
import io
import logging
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

METHODS = ("static", "dynamic")
_OPERATORS = {"static": ["Conv", "MatMul", "Gemm"], "dynamic": ["MatMul", "Gemm"]}
_BATCH = 16  # images that calibrate at once


class AccuracyFloorError(RuntimeError):
    """No choice of layers keeps the metric within the drop that is allowed."""


@dataclass(frozen=True)
class Quantized:
    """What a search found: how many layers were left in float32, of how many, and the metric's drop."""

    left: tuple[str, ...]
    num_layers: int
    drop: float


def has_vnni() -> bool | None:
    """Return whether this processor adds 8-bit products without saturation; None where that is unknown."""
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not cpuinfo.is_file():
        return None
    return "vnni" in cpuinfo.read_text()


def quantize(
    source: Path,
    target: Path,
    images: Tensor,
    method: str,
    *,
    measure: Callable[[Path], float],
    baseline: float,
    max_drop: float,
    reduce_range: bool,
    report: Callable[[str], None],
) -> Quantized:
    """Write a quantized file whose metric is at most max_drop below that of the float32 file.

    All layers are quantized first; then the most sensitive 1, 2, 4, ... are left in float32.

    Args:
        source: The float32 file.
        target: The file to write.
        images: Normalised calibration images, (N, C, H, W).
        method: "static" or "dynamic".
        measure: Returns the metric of a file, higher is better; on other images than the test's.
        baseline: The metric of the float32 file.
        max_drop: How much of it may be lost, in the metric's unit.
        reduce_range: Quantize weights to 7 bits, for processors whose 8-bit products saturate.
        report: Takes a line for each try.

    Raises:
        AccuracyFloorError: No try was good enough; the message says by how much.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        _prepare(source, prepared)
        ranked = rank_layers(prepared, images[:_BATCH], _OPERATORS[method])
        num_left, best = 0, float("inf")
        while num_left < len(ranked):
            left = ranked[:num_left]
            _write(prepared, target, images, method, left, reduce_range)
            drop = baseline - measure(target)
            report(f"int8, {len(left)} of {len(ranked)} layers in float32: metric {-drop:+.4f}")
            if drop <= max_drop:
                return Quantized(tuple(left), len(ranked), drop)
            best, num_left = min(best, drop), max(1, 2 * num_left)
    target.unlink(missing_ok=True)
    raise AccuracyFloorError(
        f"export.max_drop={max_drop}: int8 loses {best:.4f} at least, {best - max_drop:.4f} too much, with "
        "up to half of the layers in float32 as well; no file was written"
    )


def rank_layers(path: Path, images: Tensor, operators: Sequence[str]) -> list[str]:
    """List the names of the layers that can be quantized, the most sensitive first.

    A layer's sensitivity is the noise that 8 bits add, relative to the signal, to its input and weights.
    """
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    model = onnx.load(path)
    weights = {x.name: numpy_helper.to_array(x) for x in model.graph.initializer}
    layers = [
        node for node in model.graph.node if node.op_type in operators and node.input[1] in weights
    ]
    known = {output.name for output in model.graph.output}
    inputs = sorted({node.input[0] for node in layers} - {"images"} - known)
    for name in inputs:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values = dict(zip(inputs, session.run(inputs, {"images": images.numpy()}), strict=True))
    values["images"] = images.numpy()
    noise = {}
    for node in layers:
        weight, value = weights[node.input[1]], values[node.input[0]]
        is_turned = any(a.name == "transB" and a.i for a in node.attribute)
        channels = 1 if node.op_type == "Conv" else value.ndim - 1
        reads = weight if node.op_type == "Conv" or is_turned else weight.T  # outputs first
        value = np.moveaxis(value, channels, 0).reshape(value.shape[channels], -1)
        by_output = reads.reshape(len(reads), -1)
        noise[node.name] = _noise(by_output, 127, by_row=True)
        noise[node.name] += _noise(value, 128, by_row=False, weights=_norms(reads, len(value)))
    return sorted(noise, key=lambda name: -noise[name])


def _norms(weight: np.ndarray, num_channels: int) -> np.ndarray:
    """Return the norm of what reads each input channel, (channels, 1); weight has (outputs, inputs, ...)."""
    if weight.shape[1] == num_channels:
        weight = np.swapaxes(weight, 0, 1)
    elif weight.shape[0] != num_channels:  # grouped, and not depthwise
        return np.ones((num_channels, 1))
    return np.linalg.norm(weight.reshape(num_channels, -1), axis=1, keepdims=True)


def _noise(
    rows: np.ndarray, levels: int, *, by_row: bool, weights: np.ndarray | float = 1.0
) -> float:
    """Return the power of rounding rows to integers of one range, or one for each row, relative to theirs."""
    largest = np.abs(rows).max(axis=1, keepdims=True) if by_row else np.abs(rows).max()
    step = np.maximum(largest / levels, 1e-12)
    error = (rows - np.round(rows / step) * step) * weights
    return float((error**2).sum() / max(float(((rows * weights) ** 2).sum()), 1e-12))


def _prepare(source: Path, target: Path) -> None:
    """Fuse and name what the quantizer works on."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quietly():
        quant_pre_process(source, target, skip_symbolic_shape=True)


def _write(
    source: Path, target: Path, images: Tensor, method: str, left: list[str], reduce_range: bool
) -> None:
    from onnxruntime.quantization import (
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    options: dict[str, Any] = {
        "op_types_to_quantize": _OPERATORS[method],
        "per_channel": True,
        "reduce_range": reduce_range,
        "weight_type": QuantType.QInt8,
        "nodes_to_exclude": left,
        "extra_options": {"MatMulConstBOnly": True},
    }
    with _quietly():
        if method == "dynamic":
            quantize_dynamic(source, target, **options)
        else:
            quantize_static(
                source,
                target,
                _Calibration(images),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                **options,
            )


class _Calibration:
    """The images as ONNX Runtime's CalibrationDataReader reads them, without importing that."""

    def __init__(self, images: Tensor) -> None:
        self._batches = iter(images.split(_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch as the network's input, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.numpy()}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the quantizer's hints, which it logs to the root logger and prints, off the console."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
