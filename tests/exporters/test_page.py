"""The examples of docs/export.md, on the files that the page assumes."""

import re
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from export_cases import make_format, make_plain
from PIL import Image
from toys import TOY_OPTIONS

from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.models.saved import write_weights

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def deep(coarse):
    """Values of 16 bits, of which 1000 is black and 3000 white."""
    return Image.fromarray(1000 + coarse[:, :, 0].astype(np.uint16) * 8).resize((90, 60))


def with_alpha(coarse):
    """Colours that fade from left to right."""
    image = Image.fromarray(coarse).resize((90, 60))
    image.putalpha(Image.linear_gradient("L").rotate(90).resize((90, 60)))
    return image


@pytest.mark.parametrize(
    ("in_chans", "keeps_aspect", "make_photo"), [(3, True, with_alpha), (1, False, deep)]
)
def test_examples_of_the_page_compute_what_inference_does(
    in_chans, keeps_aspect, make_photo, tmp_path, monkeypatch, capsys
):
    options = {**TOY_OPTIONS, "in_chans": in_chans, "num_classes": 5, "image_size": 28}
    names = ["ant", "bee", "cat", "dog"]  # the head is wider than the data have classes
    preprocessing = {"image_size": 28, "in_chans": in_chans, "mean": [0.4], "std": [0.2]}
    preprocessing |= {"value_range": [1000.0, 3000.0], "background": [250, 120, 0]}
    preprocessing |= {"crop_fraction": 0.7}
    description = {
        "architecture": {"_target_": "mambavision_lab.models.plain.PlainMambaVision", **options},
        "preprocessing": {**preprocessing, "keeps_aspect": keeps_aspect},
        "class_names": names,
    }
    net = make_plain(**options, bidirectional=False)
    export_format = make_format("onnx", scan="op")
    export_format.write(export_format.make_spec(net, in_chans, 28, description), tmp_path)
    run = tmp_path / "logs" / "latest"
    run.mkdir(parents=True)
    write_weights(net, description, run)
    coarse = np.random.default_rng(0).integers(256, size=(4, 6, 3), dtype=np.uint8)
    # The reader's photo.jpg; Pillow goes by what is in the file.
    make_photo(coarse).save(tmp_path / "photo.jpg", "PNG")
    hub = MagicMock()
    hub.create_repo.return_value.repo_id = "you/clothes"
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", lambda token: hub)
    monkeypatch.chdir(tmp_path)

    on_the_target, share = EXAMPLE.findall(PAGE.read_text())
    found: dict = {}
    exec(on_the_target, found)
    inference = MambaVisionInference(run, device="cpu")
    expected = inference.logits(inference.prepare("photo.jpg")[None])[0]
    # Pillow rounds between its two passes of resizing, torchvision does not.
    assert torch.from_numpy(found["logits"]) == pytest.approx(expected, abs=0.01)
    assert expected.abs().max() > 0.1
    assert capsys.readouterr().out.strip() == names[expected[:4].argmax()]

    exec(share, found)
    assert hub.upload_folder.call_args.kwargs["repo_id"] == "you/clothes"
    fetched = found["net"]
    assert fetched.predict("photo.jpg") == inference.predict("photo.jpg")
    saved = {path.name for path in Path("clothes").iterdir()}
    assert saved == {"config.json", "model.safetensors", "README.md"}
