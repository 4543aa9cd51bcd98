"""Small networks whose logits depend on their scans, and the formats."""

import importlib.util

import pytest
import torch
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.exporters.onnx import OnnxFormat
from mambavision_lab.exporters.openvino import OpenvinoFormat
from mambavision_lab.exporters.safetensors import SafetensorsFormat
from mambavision_lab.exporters.torch_export import TorchExportFormat
from mambavision_lab.exporters.torchscript import TorchscriptFormat
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision

FORMATS = {
    "onnx": OnnxFormat,
    "openvino": OpenvinoFormat,
    "safetensors": SafetensorsFormat,
    "torch_export": TorchExportFormat,
    "torchscript": TorchscriptFormat,
}
TOLERANCES = {"onnx": 1e-5, "openvino": 5e-5, "torch_export": 1e-5, "torchscript": 1e-5}
DESCRIPTION = {"architecture": {"_target_": "toy"}, "class_names": ["ant", "bee", "cät"]}


def make_format(name, **options):
    """Make a format with its tolerance; skips where its packages are missing."""
    kind = FORMATS[name]
    if any(importlib.util.find_spec(package) is None for package in kind.packages):
        pytest.skip(f"needs the extra {name}")
    return kind(tolerance=TOLERANCES.get(name, 0.0), **options)


def make_plain(**options):
    """Make one Mamba block that scans both ways and one attention block, for 16 x 16 pixels."""
    sizes = {**TOY_OPTIONS, "in_chans": 3, "bidirectional": True}
    return _enlarged(PlainMambaVision(**{**sizes, **options}))


def make_hierarchical(**options):
    """Make a network with windows of 4 x 4 and 2 x 2 tokens."""
    sizes = {**HIERARCHICAL_TOY, "depths": (1, 1, 2, 1)}
    return _enlarged(MambaVision(**{**sizes, **options}))


def _enlarged(net):
    """Enlarge some weights; with the usual small ones a wrong scan would hardly change the logits."""
    for name, parameter in net.named_parameters():
        if "x_proj" in name or "head.weight" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return net.eval()
