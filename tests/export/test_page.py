"""What docs/export.md tells readers to run on the target."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from export_cases import make_format, make_plain
from PIL import Image

from mambavision_lab.export.safetensors import write_weights
from mambavision_lab.inference import MambaVisionInference

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.parametrize(("in_chans", "keeps_aspect"), [(3, True), (1, False)])
def test_code_for_the_target_computes_what_inference_does(
    in_chans, keeps_aspect, tmp_path, monkeypatch, capsys
):
    net = make_plain(in_chans=in_chans, num_classes=5, image_size=28)
    names = ["ant", "bee", "cat", "dog"]  # the head is wider than the data have classes
    preprocessing = {"image_size": 28, "in_chans": in_chans, "mean": [0.4], "std": [0.2]}
    preprocessing["keeps_aspect"] = keeps_aspect
    architecture = {"_target_": "mambavision_lab.models.plain.PlainMambaVision"}
    description = {"architecture": architecture, "preprocessing": preprocessing}
    description["class_names"] = names
    form = make_format("onnx", scan="op")
    form.write(form.target(net, in_chans, 28, description), tmp_path)
    coarse = np.random.default_rng(0).integers(256, size=(4, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((90, 60)).save(tmp_path / "photo.jpg", quality=95)

    (code,) = re.findall(r"```python\n(import json.*?)```", PAGE.read_text(), flags=re.S)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(code, found)

    inference = _with_net(net, description, tmp_path, monkeypatch)
    expected = inference.logits(inference.prepare("photo.jpg")[None])[0]
    # Pillow rounds between its two passes of resizing, torchvision does not.
    assert torch.from_numpy(found["logits"]) == pytest.approx(expected, abs=0.05)
    assert expected.abs().max() > 0.1
    assert capsys.readouterr().out.strip() == names[expected[:4].argmax()]


def _with_net(net, description, folder, monkeypatch):
    """`MambaVisionInference` around a network that was not built from its description."""
    write_weights(net, description, folder)
    monkeypatch.setattr("mambavision_lab.inference.build_net", lambda *_: net)
    return MambaVisionInference(folder, device="cpu")
