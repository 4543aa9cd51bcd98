"""Quantize an ONNX file to 8 bits, with as many layers left in float32 as the metric needs.

All layers are tried first. Where that loses too much, each is quantized alone to measure how far it moves the
logits, and the worst stay in float32: as few as keep the metric.
"""

import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mambavision_lab.compress.onnx_quantizer import OnnxQuantizer
from mambavision_lab.exporters.runtimes.base import Runtime
from mambavision_lab.exporters.runtimes.load import load_exported

_NUM_MEASURED = 32  # calibration images on which the logits of single layers are compared


class AccuracyFloorError(RuntimeError):
    """No choice of layers keeps the metric within the drop that is allowed."""


@dataclass(frozen=True)
class Quantized:
    """What a search found: the layers left in float32, of how many, and the metric's drop."""

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
    measure: Callable[[Runtime], float],
    baseline: float,
    max_drop: float,
    reduce_range: bool,
    report: Callable[[str], None],
) -> Quantized:
    """Write a quantized file whose metric is at most max_drop below that of the float32 file.

    Args:
        source: The float32 file.
        target: The file to write.
        images: Normalised calibration images, (N, C, H, W).
        method: "static" or "dynamic".
        measure: Returns the metric of a loaded file, higher is better; on other images than the test's.
        baseline: The metric of the float32 file.
        max_drop: How much of it may be lost, in the metric's unit.
        reduce_range: Quantize weights to 7 bits, for processors whose 8-bit products saturate.
        report: Takes a line for each try.

    Raises:
        AccuracyFloorError: No try was good enough; the message says by how much, and no file is left.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        quantizer = OnnxQuantizer(source, images, method, reduce_range, Path(scratch))
        order, drops = quantizer.layers, {}
        num_layers = len(order)

        def fits(num_left: int) -> bool:
            quantizer.write(target, order[num_left:])
            drops[num_left] = baseline - measure(load_exported(target))
            report(
                f"int8, {num_left} of {num_layers} layers in float32: metric {0 - drops[num_left]:+.4f}"
            )
            return drops[num_left] <= max_drop

        num_left = 0
        if not fits(0):
            report("the layers are quantized one at a time, to leave alone those that hurt most")
            trial = Path(scratch) / "one.onnx"
            order = rank_layers(quantizer, source, trial, images[:_NUM_MEASURED])
            found = _fewest(fits, num_layers)
            if found is None:
                target.unlink(missing_ok=True)
                raise AccuracyFloorError(
                    f"export.max_drop={max_drop}: int8 loses {min(drops.values()):.4f} at least, "
                    f"{min(drops.values()) - max_drop:.4f} too much, with up to {max(drops)} of {num_layers} "
                    "layers in float32 as well; no file was written"
                )
            num_left = found
            quantizer.write(target, order[num_left:])
    return Quantized(tuple(order[:num_left]), num_layers, drops[num_left])


def rank_layers(quantizer: OnnxQuantizer, source: Path, trial: Path, images: Tensor) -> list[str]:
    """List a file's layers, first those whose 8 bits alone move the logits furthest.

    Args:
        quantizer: That of the file.
        source: The float32 file.
        trial: Where to write files with one layer in 8 bits.
        images: Normalised images, (N, C, H, W), to measure on.
    """
    expected, moved = load_exported(source)(images), {}
    for layer in quantizer.layers:
        quantizer.write(trial, [layer])
        moved[layer] = float((load_exported(trial)(images) - expected).square().mean())
    return sorted(moved, key=lambda layer: -moved[layer])


def _fewest(fits: Callable[[int], bool], num_layers: int) -> int | None:
    """Return the least number of layers that fits, if more always fit too; None where none does."""
    low, high = 0, 1
    while high < num_layers and not fits(high):
        low, high = high, 2 * high
    if high >= num_layers:
        low, high = low, num_layers - 1
        if low >= high or not fits(high):
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
