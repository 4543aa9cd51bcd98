"""A run on images of several labels, from training to prediction."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from task_options import TRAIN

CSV = (
    "data=image_folder",
    "data.labels_file=labels.csv",
    "data.image_size=32",
    "data.batch_size=4",
)
SMALL = tuple(option for option in TRAIN if not option.startswith("data."))
OPTIONS = ("loss=bce", "loss.pos_weight=balanced", "augment.mixup=0.5", "callbacks=ema", "tta=flip")


@pytest.mark.slow
def test_several_labels_are_trained_tested_and_predicted(call, tmp_path):
    rows, generator = ["file,labels"], np.random.default_rng(0)
    for k in range(24):
        labels = [name for name in ("cat", "dog", "ape") if generator.random() < 0.5]
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,{';'.join(labels)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = (*CSV, f"data.root={tmp_path}", "data.num_workers=0")
    status, _, err = call("train", *SMALL, *data)
    assert (status, "give loss=bce" in err) == (2, True)
    status, out, _ = call("train", *SMALL, *data, *OPTIONS)
    assert status == 0
    assert "weights): val/map " in out
    run = tmp_path / "logs" / "latest"
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"val/map", "val/f1_macro", "test/f1_micro", "test/num_images"} <= set(metrics)
    assert "Average precision" in (run / "report.html").read_text()
    status, out, _ = call("eval", f"from_run={run}")
    assert status == 0
    assert f"{metrics['test/map']:.2%}" in out
    (tmp_path / "one.csv").write_text("file,label\n0.png,cat\n1.png,dog\n2.png,ape\n")
    other = (f"data.root={tmp_path}", "data.labels_file=one.csv", "data.is_multilabel=false")
    status, _, err = call("eval", f"from_run={run}", *other)
    assert (status, "trained on several labels for each" in err) == (2, True)
    assert call("predict", f"from_run={run}", f"images={tmp_path}", "threshold=0.2")[0] == 0
    (folder,) = (tmp_path / "logs" / "predict").glob("*/*")
    with (folder / "predictions.csv").open() as file:
        first = next(csv.DictReader(file))
    labels, probabilities = (first[key].split(";") for key in ("labels", "probabilities"))
    assert len(labels) == len(probabilities)
