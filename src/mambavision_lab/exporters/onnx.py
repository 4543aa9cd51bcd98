"""Export to ONNX, with each scan as one `Scan` node."""

import json
from pathlib import Path

import torch
from torch.export import ExportedProgram

from mambavision_lab.exporters.base import ExportSpec, GraphFormat, example, tracing

OPSET = 20  # the first with Gelu


class OnnxFormat(GraphFormat):
    """An ONNX file with input `images` and output `logits`; arguments as in `GraphFormat`."""

    name = "onnx"
    files = ("model.onnx",)
    packages = ("onnx", "onnxscript", "onnxruntime")

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.onnx."""
        write_onnx(self.export_program(spec), spec, folder / self.files[0])


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
