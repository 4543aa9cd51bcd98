"""Write ONNX files in which chosen layers have 8 bits, with ONNX Runtime's quantizer.

Layers are convolutions, MatMul and Gemm with constant weights, which become int8 per channel; attention's
products and the scan stay in float32. "static" fixes the ranges of activations on calibration images (QDQ),
"dynamic" measures them in each call, for MatMul and Gemm alone.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

_OPERATORS = {"static": ["Conv", "MatMul", "Gemm"], "dynamic": ["MatMul", "Gemm"]}
_BATCH = 16  # images that calibrate at once


class OnnxQuantizer:
    """Prepares a file once, to be written with different layers in 8 bits.

    Args:
        source: The float32 file.
        images: Normalised calibration images, (N, C, H, W).
        method: "static" or "dynamic".
        reduce_range: Quantize weights to 7 bits, for processors whose 8-bit products saturate.
        scratch: A folder for files in between.

    Attributes:
        layers: Names of the layers that can be quantized, in the order of the graph.
    """

    def __init__(
        self, source: Path, images: Tensor, method: str, reduce_range: bool, scratch: Path
    ) -> None:
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._method, self._reduce_range = method, reduce_range
        self._prepared = scratch / "prepared.onnx"
        with _quietly():
            quant_pre_process(source, self._prepared, skip_symbolic_shape=True)
        graph = onnx.load(self._prepared, load_external_data=False).graph
        weights = {stored.name for stored in graph.initializer}
        self.layers: list[str] = [
            node.name
            for node in graph.node
            if node.op_type in _OPERATORS[method] and node.input[1] in weights
        ]
        if method == "static":
            self._ranges = self._calibrate(images, scratch / "augmented.onnx")

    def write(self, target: Path, layers: Sequence[str]) -> None:
        """Write a file in which these layers, at least one, have 8 bits."""
        import onnx
        from onnxruntime.quantization import QDQQuantizer, QuantType, quantize_dynamic

        options: dict[str, Any] = {"nodes_to_quantize": list(layers), "nodes_to_exclude": []}
        options |= {"op_types_to_quantize": _OPERATORS[self._method], "per_channel": True}
        options |= {"reduce_range": self._reduce_range}
        options["extra_options"] = {"MatMulConstBOnly": True}
        with _quietly():
            if self._method == "dynamic":
                quantize_dynamic(self._prepared, target, weight_type=QuantType.QInt8, **options)
            else:
                quantizer = QDQQuantizer(
                    onnx.shape_inference.infer_shapes(onnx.load(self._prepared)),
                    weight_qType=QuantType.QInt8,
                    activation_qType=QuantType.QUInt8,
                    tensors_range=self._ranges,
                    **options,
                )
                quantizer.quantize_model()
                quantizer.model.save_model_to_file(target)
        written = onnx.load(target)
        own = [entry for entry in written.metadata_props if not entry.key.startswith("onnx.")]
        del written.metadata_props[:]  # the quantizer's marks are no JSON, as ours are
        written.metadata_props.extend(own)
        onnx.save(written, target)

    def _calibrate(self, images: Tensor, augmented: Path) -> Any:
        """Find the range of each activation."""
        from onnxruntime.quantization import create_calibrator

        with _quietly():
            calibrator = create_calibrator(
                self._prepared, _OPERATORS[self._method], augmented_model_path=str(augmented)
            )
            calibrator.collect_data(_Calibration(images))
            return calibrator.compute_data()


class _Calibration:
    """The images as ONNX Runtime's CalibrationDataReader reads them, without importing that."""

    def __init__(self, images: Tensor) -> None:
        self._batches = iter(images.split(_BATCH))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self.get_next, None)

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
