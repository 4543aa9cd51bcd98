"""predict.py as a user runs it, on a folder with good and damaged files."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from task_options import TRAIN

from mambavision_lab import MambaVisionInference
from mambavision_lab.tasks.predict import find_images

ODD = os.fsdecode(b"below/[red]6\xff.png")  # a name with markup and a byte that is no text


@pytest.fixture
def photos(tmp_path):
    """Seven pictures, one of them in a folder below, two files that are none, and a link back up."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    generated = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    for i, image in enumerate(generated):
        Image.fromarray(image).save(folder / (ODD if i == 6 else f"{i}.png"))
    (folder / "below" / "again").symlink_to(folder, target_is_directory=True)
    data = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.txt").write_text("no image either")
    return folder


def test_predict_classifies_a_folder_and_counts_damaged_files(call, photos, tmp_path):
    assert call("train", *TRAIN)[0] == 0
    run = tmp_path / "logs" / "latest"
    checkpoint = f"ckpt_path={run}/checkpoints/best.ckpt"

    options = ("device=cpu", "batch_size=3", "top_k=2", "ops.selective_scan.backend=torch")
    status, out, err = call("predict", checkpoint, f"images={photos}", *options)
    assert (status, err) == (0, f"WARNING: images={photos}: not read as images: 1 .txt\n")
    assert "7 images classified, 2 skipped" in out
    assert "below/[red]6?.png" in out
    (folder,) = (tmp_path / "logs" / "predict" / "mambavision_nano-synthetic").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["images"] == 7
    assert [*summary["skipped"]] == [str(photos / "cut.png"), str(photos / "text.jpg")]
    with (folder / "predictions.csv").open(errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    names = [f"{i}.png" for i in range(6)] + [ODD]
    assert sorted(row["image"] for row in rows) == sorted(str(photos / name) for name in names)
    inference = MambaVisionInference(run, device="cpu")
    for row in rows:
        (first, p), (second, _) = inference.predict(row["image"], top_k=2)
        assert (row["class_1"], row["class_2"]) == (first, second)
        assert float(row["probability_1"]) == pytest.approx(p, abs=1e-4)
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.size == (7 * 152, 184)

    # A glob, as JSON lines; the images of the test itself would be classified as in the test.
    arguments = (f"images={photos}/[0-2].png", "format=jsonl", "num_pictures=0", "device=cpu")
    quoted = [f"images='{photos}/[0-2].png'", *arguments[1:]]
    assert call("predict", checkpoint, *quoted)[0] == 0
    folder = max((tmp_path / "logs" / "predict" / "mambavision_nano-synthetic").iterdir())
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    assert [Path(json.loads(line)["image"]).name for line in lines] == ["0.png", "1.png", "2.png"]
    assert len(json.loads(lines[0])["classes"]) == 5
    assert not (folder / "contact_sheet.png").exists()

    (tmp_path / "empty").mkdir()
    nameless = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    del nameless["hyper_parameters"]["data"]["class_names"]
    torch.save(nameless, run / "checkpoints" / "nameless.ckpt")
    refused = {
        (checkpoint, f"images={tmp_path}/empty"): "no images there",
        (checkpoint, f"images={tmp_path}/none"): "no images there",
        (checkpoint, f"images={photos}/text.jpg"): "none of the files can be read",
        (checkpoint, f"images={photos}", "top_k=0"): "top_k=0 must be at least 1",
        (checkpoint, f"images={photos}", "format=xml"): "choose csv or jsonl",
        (checkpoint, f"images={photos}", "topk=1"): "top_k",
        (f"ckpt_path={run}/checkpoints/nameless.ckpt", f"images={photos}"): "no class names",
        (
            checkpoint,
            f"images={photos}",
            "ops.selective_scan.backend=fast",
        ): "ops.selective_scan.backend=fast: no such backend",
        (
            checkpoint,
            f"images={photos}",
            "format=jsonl",
            f"hydra.run.dir={folder}",
        ): "holds a run; give another folder",
        (checkpoint,): "images",
    }
    (photos / "notes.txt").unlink()
    for given, named in refused.items():
        status, _, err = call("predict", *given)
        assert (status, err.count("\n")) == (2, 1), err
        assert named in err


def test_folder_before_a_glob_is_literal(tmp_path, monkeypatch):
    folder = tmp_path / "dir[1]" / "in*"
    folder.mkdir(parents=True)
    for name in ("a.png", "b[2].png", "c.jpg"):
        (folder / name).touch()
    both = [str(folder / name) for name in ("a.png", "b[2].png")]
    assert find_images(f"{folder}/*.png") == both
    assert find_images(f"{tmp_path}/dir[1]/**/*.png") == both
    assert find_images(f"{tmp_path}/d*/**/a.png") == both[:1]
    monkeypatch.chdir(folder)
    assert find_images("[a-b]*") == ["a.png", "b[2].png"]
