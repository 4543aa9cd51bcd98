"""eval.py, predict.py and MambaVisionInference on exported files of a stored run."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from composing import check
from PIL import Image

from mambavision_lab import MambaVisionInference
from mambavision_lab.exporters.runtimes.load import load_exported
from mambavision_lab.exporters.torchscript import TorchscriptFormat

STORED = Path(__file__).parents[1] / "runs" / "stored_run"


@pytest.fixture
def model(tmp_path):
    """A TorchScript file of the stored run, far from that run."""
    trained = MambaVisionInference(STORED, device="cpu")
    script = TorchscriptFormat(tolerance=1e-5)
    spec = script.make_spec(trained.net, trained.in_chans, trained.image_size, trained.description)
    (tmp_path / "away").mkdir()
    script.write(spec, tmp_path / "away")
    return tmp_path / "away" / "model.ts"


def with_description(model, path, **changed):
    """Write a TorchScript file again with other values in its description."""
    extra = {"config.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        graph = torch.jit.load(model, _extra_files=extra)
        description = json.loads(extra["config.json"])
        preprocessing = {**description["preprocessing"], **changed.pop("preprocessing", {})}
        description = {**description, **changed, "preprocessing": preprocessing}
        torch.jit.save(graph, path, _extra_files={"config.json": json.dumps(description)})
    return path


def write_images(folder, names):
    for i, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for j in range(3):
            Image.new("RGB", (20, 25), (60 * i, 90 * j, 200)).save(folder / name / f"{j}.png")
    return folder


def test_exported_file_predicts_and_evaluates_as_its_run_does(call, model, tmp_path):
    trained, exported = (MambaVisionInference(path, device="cpu") for path in (STORED, model))
    assert exported.class_names == trained.class_names
    assert exported.image_size == trained.image_size
    images = [torch.randint(256, (3, 40, 50), dtype=torch.uint8) for _ in range(3)]
    for own, expected in zip(exported.predict(images), trained.predict(images), strict=True):
        assert [name for name, _ in own] == [name for name, _ in expected]
        assert [p for _, p in own] == pytest.approx([p for _, p in expected], abs=1e-5)

    folder = write_images(tmp_path / "photos", ["triangle-plain", "bar-plain"])
    assert call("predict", f"model_file={model}", f"images={folder}", "format=jsonl")[0] == 0
    (written,) = (tmp_path / "logs" / "predict").rglob("predictions.jsonl")
    first = json.loads(written.read_text().splitlines()[0])
    name, probability = trained.predict(first["image"])[0]
    assert first["classes"][0] == {
        "class": name,
        "probability": pytest.approx(probability, abs=1e-5),
    }

    # The size and the normalisation are the file's, not those of configs/data/image_folder.yaml.
    run = shutil.copytree(STORED, tmp_path / "stored")
    data = ["trainer=cpu", "data=image_folder", f"data.root={folder}", "data.num_workers=0"]
    same = ("image_size=16", "mean=[0.5]", "std=[0.34]")
    metrics = []
    for given in ([f"model_file={model}"], [f"from_run={run}", *(f"data.{x}" for x in same)]):
        status, _, err = call("eval", *given, *data)
        assert (status, "but the run was trained with" in err) == (0, False), err
        (file,) = (tmp_path / "logs" / "eval").rglob("metrics.json")
        metrics.append(json.loads(file.read_text()))
        shutil.rmtree(tmp_path / "logs" / "eval")
    assert metrics[0]["test/num_images"] == 6
    assert metrics[0]["test/loss"] == pytest.approx(metrics[1]["test/loss"], abs=1e-4)


def test_exported_files_are_refused_in_one_line(call, refusal, model, tmp_path, monkeypatch):
    photos = write_images(tmp_path / "photos", ["cat", "eel"])
    data = ("data=image_folder", f"data.root={photos}", "data.num_workers=0", "trainer=cpu")
    known = f"data.root={write_images(tmp_path / 'known', ['bar-plain', 'disc-plain'])}"
    (tmp_path / "damaged.ts").write_bytes(b"no zip")
    (tmp_path / "model.tflite").touch()
    evaluated = ("eval", f"model_file={model}", *data)
    refused = {
        ("predict", f"model_file={tmp_path}/none.onnx", f"images={photos}"): "no such file",
        ("predict", f"model_file={tmp_path}/model.tflite", f"images={photos}"): "no runtime for",
        ("predict", f"model_file={tmp_path}/damaged.ts", f"images={photos}"): "cannot load it",
        ("predict", f"images={photos}"): "or model_file=FILE",
        ("predict", f"model_file={model}", "device=cuda", f"images={photos}"): "cuda",
        ("eval", f"model_file={model}", f"ckpt_path={STORED}", *data): "give one of them",
        evaluated: "does not know: ['cat', 'eel']",
        (*evaluated, known, "data.image_size=32"): "takes 16 x 16 alone",
        (*evaluated, "classifier.use_compile=true"): "true: cannot change an exported network",
        (*evaluated, "trainer.precision=bf16-mixed"): "mixed: would be ignored",
        (*evaluated, "model=mambavision_tiny"): "tiny: cannot change an exported network",
        ("eval", f"model_file={model}", "trainer=cpu"): "data",
    }
    for (task, *given), named in refused.items():
        status, _, err = call(task, *given)
        assert (status, err.count("\n")) == (2, 1), err
        assert named in err
    exported = MambaVisionInference(model)
    assert "gives logits alone" in refusal(lambda: exported.features(torch.zeros(3, 16, 16)))
    assert "gives logits alone" in refusal(lambda: exported.save_pretrained(tmp_path / "saved"))
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "other.ts")
    assert "gives no preprocessing" in refusal(lambda: MambaVisionInference(tmp_path / "other.ts"))
    shutil.copy(model, tmp_path / "MODEL.TS")
    assert MambaVisionInference(tmp_path / "MODEL.TS").class_names == exported.class_names
    trained = MambaVisionInference(STORED, device="cpu")
    trained.save_pretrained(tmp_path / "saved")
    weights = tmp_path / "saved" / "model.safetensors"
    assert weights.stat().st_mode == (tmp_path / "saved" / "config.json").stat().st_mode
    for given in (weights, weights.parent):
        message = refusal(lambda given=given: check("train", f"from_run={given}"))
        assert f"model_file={weights}, train.py with model.pretrained={weights.parent}" in message
    weights = weights.rename(weights.with_name("renamed.safetensors"))
    assert "to be called model.safetensors" in refusal(lambda: MambaVisionInference(weights))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "model.onnx").touch()
    message = refusal(lambda: load_exported(tmp_path / "model.onnx"))
    assert "pip install 'mambavision-lab[onnx]'" in message


def test_a_file_without_its_run_is_refused_by_an_evaluation(refusal, tmp_path):
    (tmp_path / "model.onnx").touch()
    message = refusal(lambda: check("eval", f"model_file={tmp_path}/model.onnx"))
    assert "lies in no run folder" in message


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"class_names": [f"c{i}" for i in range(99)]}, "names 99 classes"),
        ({"has_masks": True}, "for an image"),
        (
            {"preprocessing": {"in_chans": 1, "mean": [0.5], "std": [0.3]}},
            "does not fit its metadata",
        ),
        ({"preprocessing": {"mean": [0.5, 0.5]}}, "gives 2 means or deviations of 3 channels"),
        ({"preprocessing": {"std": [0.0]}}, "numbers above 0"),
        ({"preprocessing": {"crop_fraction": float("nan")}}, "a share above 0"),
        ({"preprocessing": {"image_size": 0}}, "a number from 1"),
        ({"input": {"height": 8, "width": 8}}, "does not fit its metadata"),
    ],
)
def test_metadata_that_do_not_fit_their_graph_are_refused(changed, named, model, refusal, tmp_path):
    other = with_description(model, tmp_path / "other.ts", **changed)
    assert named in refusal(lambda: MambaVisionInference(other))


def test_file_with_fewer_names_than_logits_is_told(model, tmp_path, caplog):
    MambaVisionInference(with_description(model, tmp_path / "other.ts", class_names=["one", "two"]))
    assert "names 2 classes; the others are left out" in caplog.text
