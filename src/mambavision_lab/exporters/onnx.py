"""Export to ONNX, with each scan as one `Scan` node."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.export import ExportedProgram

from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.base import ExportSpec, GraphFormat, example, tracing

OPSET = 20  # the first with Gelu
METHODS = ("static", "dynamic")  # of 8 bits
MAX_DROP, NUM_CALIBRATION = 0.003, 128


class OnnxFormat(GraphFormat):
    """An ONNX file with input `images` and output `logits`.

    Args:
        scan: As in `GraphFormat`.
        tolerance: As in `ExportFormat`, of float32.
        image_size: As in `ExportFormat`.
        dynamic_size: As in `ExportFormat`.
        quantize: "static" or "dynamic" for 8 bits, see `compress.int8`; None for float32.
        max_drop: How much of the validation metric int8 may lose, as a share (0.003 is 0.3 points).
        num_calibration: Training images that fix the ranges of static int8.
        reduce_range: Quantize weights to 7 bits; None where this processor lacks VNNI.

    Raises:
        ConfigError: quantize or another setting is impossible.
    """

    name = "onnx"
    files = ("model.onnx",)
    packages = ("onnx", "onnxscript", "onnxruntime")
    extra = "onnx"

    def __init__(
        self,
        *,
        scan: str,
        tolerance: float,
        image_size: int | Sequence[int] | None = None,
        dynamic_size: bool | None = None,
        quantize: str | None = None,
        max_drop: float = MAX_DROP,
        num_calibration: int = NUM_CALIBRATION,
        reduce_range: bool | None = None,
    ) -> None:
        super().__init__(
            scan=scan, tolerance=tolerance, image_size=image_size, dynamic_size=dynamic_size
        )
        if quantize not in (None, *METHODS):
            raise ConfigError(f"export.quantize={quantize}: wanted static, dynamic or null")
        if not 0 <= max_drop <= 1:
            raise ConfigError(f"export.max_drop={max_drop}: wanted a share, from 0 to 1")
        if num_calibration < 1:
            raise ConfigError(f"export.num_calibration={num_calibration} must be at least 1")
        of_8_bits = {
            "max_drop": (max_drop, MAX_DROP),
            "num_calibration": (num_calibration, NUM_CALIBRATION),
            "reduce_range": (reduce_range, None),
        }
        for key, (value, default) in of_8_bits.items():
            if quantize is None and value != default:
                raise ConfigError(
                    f"export.{key}={value}: is of 8 bits, and this file has 32; add export.quantize=static"
                )
        self.quantize, self.max_drop = quantize, max_drop
        self.num_calibration, self.reduce_range = num_calibration, reduce_range
        self.quantize_file: Callable[[Path, Path], None] | None = None  # set by who has the images
        if quantize is not None:
            stem, _, suffix = self.files[0].rpartition(".")
            self.files = (f"{stem}_int8.{suffix}",)

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write the file."""
        self.write_graph(spec, folder / self.files[0])

    def write_graph(self, spec: ExportSpec, path: Path) -> None:
        """Write the ONNX file, in 8 bits where that is asked for."""
        if self.quantize is None:
            write_onnx(self.export_program(spec), spec, path)
            return
        assert self.quantize_file is not None, "int8 needs images and a metric"
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            full = Path(scratch) / "float32.onnx"
            write_onnx(self.export_program(spec), spec, full)
            self.quantize_file(full, path)


def write_onnx(exported: ExportedProgram, spec: ExportSpec, path: Path) -> None:
    """Write a traced network as an ONNX file; the spec's description goes into its `metadata_props`."""
    from mambavision_lab.exporters.onnx_translations import TABLE  # needs onnxscript

    with tracing():
        program = torch.onnx.export(
            exported,
            (example(spec),),
            custom_translation_table=TABLE,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    model = program.model
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # lines of source, with the folders of this machine
    model.producer_name = "mambavision_lab"
    for key, value in spec.description.items():
        model.metadata_props[key] = json.dumps(value)
    program.save(str(path), external_data=False)
