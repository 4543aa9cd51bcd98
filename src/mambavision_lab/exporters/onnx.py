"""Export to ONNX, with each scan as one `Scan` node."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.exporters.base import (
    ExportFormat,
    ExportSpec,
    Runtime,
    example,
    export_program,
    tracing,
)
from mambavision_lab.exporters.plain_scan import unrolled_scan

OPSET = 20  # the first with Gelu


def check_scan(scan: str) -> None:
    """Refuse a value of `scan` that does not exist.

    Raises:
        ValueError: It is neither "op" nor "unrolled".
    """
    if scan not in ("op", "unrolled"):
        raise ValueError(f"scan={scan} is unknown; choose op or unrolled")


class OnnxFormat(ExportFormat):
    """An ONNX file with input `images` and output `logits`.

    Args:
        scan: "op" for one `Scan` node per scan, "unrolled" for plain operations.
        tolerance: As in `ExportFormat`.
        image_size: As in `ExportFormat`.
        dynamic_size: As in `ExportFormat`.
    """

    name = "onnx"
    files = ("model.onnx",)
    packages = ("onnx", "onnxscript", "onnxruntime")

    def __init__(
        self,
        *,
        scan: str,
        tolerance: float,
        image_size: int | Sequence[int] | None = None,
        dynamic_size: bool | None = None,
    ) -> None:
        super().__init__(tolerance=tolerance, image_size=image_size, dynamic_size=dynamic_size)
        check_scan(scan)
        self.scan = scan

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.onnx."""
        write_onnx(spec, folder / self.files[0], is_unrolled=self.scan == "unrolled")

    def load(self, folder: Path) -> Runtime:
        """Load model.onnx with ONNX Runtime on the CPU."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            str(folder / self.files[0]), options, providers=["CPUExecutionProvider"]
        )

        def run(images: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

        return run


def write_onnx(spec: ExportSpec, path: Path, *, is_unrolled: bool) -> None:
    """Write an ONNX file; the spec's description goes into its `metadata_props`."""
    from mambavision_lab.exporters.onnx_translations import TABLE

    exported = export_program(spec, unrolled_scan if is_unrolled else None)
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
