"""export=all: each format with its row, and why others have none; int8 and the refusals of its images."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from task_options import TRAIN

from mambavision_lab.tasks.exported_files import take

STORED = Path(__file__).parents[1] / "runs" / "stored_run"
WITHOUT_ONNX = [f"~export.{name}" for name in ("onnx", "onnx_int8", "openvino", "ort")]


def test_all_formats_are_compared_and_missing_ones_say_why(call, tmp_path):
    run = shutil.copytree(STORED, tmp_path / "stored")
    output = tmp_path / "out"
    given = (f"from_run={run}", "export=all", f"output={output}", *WITHOUT_ONNX)
    given += ("~export.torch_export", "~export.executorch")
    status, out, err = call("export", *given)
    assert (status, err) == (0, "")
    assert "not run: web: export.runtime=" in out
    assert "npm install onnxruntime-web" in out
    with (output / "comparison.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["eager", "safetensors", "torchscript", "web"]
    assert float(rows["torchscript"]["difference"]) <= 1e-5
    assert rows["torchscript"]["metric"] == rows["eager"]["metric"] != ""
    assert (rows["torchscript"]["agreement"], rows["eager"]["agreement"]) == ("1.0", "")
    assert float(rows["torchscript"]["batch8_ms"]) > 0
    assert rows["web"]["metric"] == ""
    assert {"model.ts", "model.safetensors", "comparison.png", "comparison.md"} <= {
        path.name for path in output.iterdir()
    }
    status, _, err = call("export", *given)
    assert (status, err.count("\n")) == (2, 1)
    assert "is already there" in err
    other = (*given, f"output={tmp_path}/other")
    status, _, err = call("export", *other, "export.torchscript.tolerance=-1")
    assert (status, err.count("\n")) == (2, 1)
    assert "export.torchscript: export.tolerance=-1: wanted a number" in err


def test_of_two_exports_at_once_the_later_is_refused(refusal, tmp_path):
    output, first, second = (tmp_path / name for name in ("output", "first", "second"))
    for folder in (output, first, second):
        folder.mkdir()
    for folder in (first, second):
        (folder / "model.ts").write_text(folder.name)
    take(["model.ts"], first, output, overwrite=False)
    message = refusal(lambda: take(["model.ts"], second, output, overwrite=False))
    assert "model.ts is already there" in message
    assert (output / "model.ts").read_text() == "first"
    take(["model.ts"], second, output, overwrite=True)
    assert (output / "model.ts").read_text() == "second"


def test_format_that_fails_costs_no_other(call, tmp_path, monkeypatch):
    def fail(path):
        raise RuntimeError("the runtime broke\nand says more")

    monkeypatch.setattr("mambavision_lab.exporters.runtimes.torchscript.load", fail)
    run = shutil.copytree(STORED, tmp_path / "stored")
    given = (f"from_run={run}", "export=all", f"output={tmp_path}/out", *WITHOUT_ONNX)
    given += ("~export.torch_export", "~export.executorch", "~export.web")
    status, out, _ = call("export", *given)
    assert status == 0
    assert "not run: torchscript: " in out
    assert "the runtime broke" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "comparison.csv"} <= names
    assert "model.ts" not in names


def test_run_in_bfloat16_is_exported_and_measured_in_float32(call, tmp_path):
    run = shutil.copytree(STORED, tmp_path / "stored")
    (file,) = (run / "checkpoints").glob("best.ckpt")
    checkpoint = torch.load(file, weights_only=True)
    weights = checkpoint["state_dict"]
    checkpoint["state_dict"] = {
        key: x.bfloat16() if x.is_floating_point() else x for key, x in weights.items()
    }
    torch.save(checkpoint, file)
    given = (f"from_run={run}", "export=all", f"output={tmp_path}/out", *WITHOUT_ONNX)
    given += ("~export.torch_export", "~export.executorch", "~export.web")
    status, out, err = call("export", *given)
    assert (status, err, "not run" in out) == (0, "", False)


def test_all_formats_that_fail_are_an_error(call, tmp_path):
    run = shutil.copytree(STORED, tmp_path / "stored")
    given = (f"from_run={run}", "export=all", f"output={tmp_path}/out", *WITHOUT_ONNX)
    left_out = [f"~export.{name}" for name in ("safetensors", "torchscript", "torch_export")]
    status, out, err = call("export", *given, *left_out, "~export.executorch")
    assert (status, err.count("\n")) == (1, 1)
    assert "no format could be written" in err
    assert "not run: web" in out


def test_formats_that_write_the_same_file_are_refused(call, tmp_path):
    run = shutil.copytree(STORED, tmp_path / "stored")
    status, _, err = call("export", f"from_run={run}", "export=all", "export.onnx.quantize=static")
    assert (status, err.count("\n")) == (2, 1)
    assert "export.onnx and export.onnx_int8 both write model_int8.onnx" in err
    assert not (run / "exports").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs the extra onnx")
def test_int8_and_the_mobile_format_are_written_or_refused(call, tmp_path):
    assert call("train", *TRAIN)[0] == 0
    run, output = tmp_path / "logs" / "latest", tmp_path / "out"
    base = (f"from_run={run}", f"output={output}")
    status, out, err = call("export", *base, "export.quantize=static", "export.max_drop=1")
    assert (status, err) == (0, "")
    assert "layers in float32: metric" in out
    assert "bits, 0 of" in out
    assert (output / "model_int8.onnx").is_file()
    other_size = ("export.quantize=dynamic", "export.max_drop=1", "export.image_size=48")
    status, out, err = call("export", *base, *other_size, "overwrite=true")
    assert (status, err) == (0, "")
    assert "| 48 x 48 |" in (output / "model_int8.onnx.md").read_text()
    status, _, err = call("export", *base, "export=ort")
    assert (status, err) == (0, "")
    parity = json.loads((output / "model.ort.json").read_text())["parity"]
    assert max(row["difference"] for row in parity) <= 1e-5
    evaluated = []
    for network in (f"from_run={run}", f"model_file={output}/model.ort"):
        assert call("eval", network, "trainer=cpu", "data=synthetic", "data.num_test=10")[0] == 0
        (file,) = (tmp_path / "logs" / "eval").rglob("metrics.json")
        evaluated.append(json.loads(file.read_text())["test/loss"])
        shutil.rmtree(tmp_path / "logs" / "eval")
    assert evaluated[0] == pytest.approx(evaluated[1], abs=1e-5)
    refused = {
        "export.quantize=int4": "wanted static, dynamic or null",
        "export.max_drop=2": "wanted a share",
        "export.num_calibration=0": "at least 1",
    }
    for override, named in refused.items():
        status, _, err = call("export", *base, "export.quantize=static", override, "overwrite=true")
        assert (status, err.count("\n")) == (2, 1), err
        assert named in err
