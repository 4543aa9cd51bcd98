"""export.py as a user runs it, and what it refuses."""

import json

import torch
from PIL import Image
from safetensors.torch import load_file
from task_options import TRAIN

from mambavision_lab import MambaVisionInference
from mambavision_lab.exporters.safetensors import SafetensorsFormat
from mambavision_lab.models.plain import PlainMambaVision
from mambavision_lab.models.saved import write_weights


def test_export_writes_what_is_equal_and_refuses_the_rest(call, tmp_path, monkeypatch):
    assert call("train", *TRAIN)[0] == 0
    run = tmp_path / "logs" / "latest"
    checkpoint = run / "checkpoints" / "best.ckpt"

    # By default into the run's folder, compared on the run's own test images.
    status, out, err = call("export", f"from_run={run}", "export=torchscript")
    assert (status, err) == (0, "")
    assert "written: " in out
    names = {"model.ts", "model.ts.json", "model.ts.md"}
    assert {path.name for path in (run / "exports").iterdir()} == names
    tables = json.loads((run / "exports" / "model.ts.json").read_text())
    assert {(row["images"], row["batch"]) for row in tables["parity"]} == {
        (kind, batch) for kind in ("random", "real") for batch in (1, 3, 8)
    }
    assert max(row["difference"] for row in tables["parity"]) <= 1e-5
    assert [row["batch"] for row in tables["latency"]] == [1, 8]
    assert "| real | 32 x 32 |" in (run / "exports" / "model.ts.md").read_text()

    # A folder of weights, for Python and for pretrained=.
    output = tmp_path / "saved"
    weights = f"ckpt_path={checkpoint}", "export=safetensors", f"output={output}"
    assert call("export", *weights)[0] == 0
    assert {path.name for path in output.iterdir()} == {
        *("config.json", "model.safetensors"),
        *("model.safetensors.json", "model.safetensors.md"),
    }
    trained, saved = MambaVisionInference(run), MambaVisionInference.from_pretrained(output)
    image = torch.randint(256, (3, 40, 50), dtype=torch.uint8)
    assert trained.predict(image) == saved.predict(image)
    settings = {**saved.description["architecture"], "pretrained": str(output)}
    del settings["_target_"]
    fresh = PlainMambaVision(**{**settings, "scan_backend": "auto"})
    assert all(
        x.equal(fresh.state_dict()[key])
        for key, x in load_file(output / "model.safetensors").items()
    )

    # Nothing is overwritten without overwrite=true.
    before = {path: path.read_bytes() for path in output.iterdir()}
    status, _, err = call("export", *weights)
    assert (status, err.count("\n")) == (2, 1)
    assert "model.safetensors is already there; give overwrite=true" in err
    assert {path: path.read_bytes() for path in output.iterdir()} == before
    assert call("export", *weights, "overwrite=true")[0] == 0

    nameless = torch.load(checkpoint, weights_only=True)
    del nameless["hyper_parameters"]["data"]["class_names"]
    torch.save(nameless, checkpoint.with_name("nameless.ckpt"))
    (tmp_path / "file").touch()
    fresh_output = f"output={tmp_path}/other"
    refused = {
        (f"ckpt_path={checkpoint.with_name('nameless.ckpt')}", fresh_output): "no class names",
        (
            f"from_run={run}",
            "export=torchscript",
            f"output={tmp_path}/file/below",
        ): "file is not a folder",
        (
            f"from_run={run}",
            "export=torchscript",
            f"output={tmp_path}/file",
        ): "cannot be written to",
        (f"from_run={run}", "export=onxx"): "did you mean 'onnx'?",
        (f"from_run={run}", "export.scan=loop", fresh_output): "choose op or unrolled",
        (f"from_run={run}", "export.dynamic_size=true", fresh_output): "only the batch can vary",
        (f"from_run={run}", "export.opset=17", fresh_output): "export.opset",
        (f"from_run={run}", fresh_output, f"images={tmp_path}/none"): "no images there",
        (f"from_run={run}", fresh_output, f"images={tmp_path}/file"): "cannot be read as an image",
        ("export=onnx",): "ckpt_path is missing",
    }
    for given, named in refused.items():
        status, _, err = call("export", *given)
        assert (status, err.count("\n")) == (2, 1), err
        assert named in err
    assert not (tmp_path / "other").exists()

    # A file that computes something else is not written, nor does it replace a good one.
    def write_wrongly(self, spec, folder):
        net = spec.net
        with torch.no_grad():
            net.head.bias[0] += 1
        write_weights(net, spec.description, folder)
        with torch.no_grad():
            net.head.bias[0] -= 1

    monkeypatch.setattr(SafetensorsFormat, "write", write_wrongly)
    before = {path: path.read_bytes() for path in output.iterdir()}
    status, _, err = call("export", *weights, "overwrite=true")
    assert (status, err.count("\n")) == (1, 1)
    assert "error: 6 of 6 comparisons with eager mode exceed the tolerance" in err
    assert {path: path.read_bytes() for path in output.iterdir()} == before
    assert call("export", *weights[:2], fresh_output)[0] == 1
    assert not (tmp_path / "other").exists()


def test_run_whose_data_are_gone_is_exported(call, tmp_path):
    root = tmp_path / "photos"
    for split, name in ((s, n) for s in ("train", "val", "test") for n in ("cat", "dog")):
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(2):
            Image.effect_noise((20, 20), 50).save(folder / f"{i}.png")
    given = ["data=image_folder", f"data.root={root}", "data.image_size=16", "data.num_workers=0"]
    trained = [option for option in TRAIN if not option.startswith("data.")]
    assert call("train", *trained, *given, "data.batch_size=2")[0] == 0
    root.rename(tmp_path / "gone")
    run, output = f"from_run={tmp_path}/logs/latest", f"output={tmp_path}/out"
    status, out, err = call("export", run, "export=torchscript", output)
    assert (status, err) == (0, "")
    assert "no such folder" in out
    images = f"images={tmp_path}/gone"
    assert call("export", run, "export=torchscript", output, "overwrite=true", images)[0] == 0
    assert "| real |" in (tmp_path / "out" / "model.ts.md").read_text()
    status, out, _ = call("export", run, "export=safetensors", output, "~data")
    assert (status, "(data=null)" in out) == (0, True)
