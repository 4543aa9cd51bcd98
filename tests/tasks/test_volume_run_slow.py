"""A run of volumes from training to prediction, as commands."""

import json

import numpy as np
import pytest
from volume_bytes import ramp

pytestmark = pytest.mark.slow


def write(root):
    for label, name in enumerate(("low", "high")):
        (root / name).mkdir(parents=True)
        for k in range(8):
            np.save(root / name / f"{k}.npy", ramp(9, 10, 10) // 2 + 120 * label + k % 3)
    return root


def test_volumes_are_trained_evaluated_predicted_and_exported(tmp_path, call):
    root, logs = write(tmp_path / "volumes"), f"paths.log_dir={tmp_path}/logs"
    options = ("data=volume_folder", f"data.root={root}", "data.num_slices=8", "data.image_size=16")
    network = ("model=mambavision_micro", "model.dims=3", "model.stem_stride=[1,2,2]")
    short = (
        "trainer=debug",
        "scheduler.warmup_epochs=0",
        "data.num_workers=0",
        "augment=volumes",
        "name=toy",
    )
    assert call("train", *options, *network, *short, logs)[0] == 0
    (run,) = (tmp_path / "logs" / "train" / "toy").glob("*")
    assert (run / "report.html").is_file()
    checkpoint = run / "checkpoints" / "best.ckpt"
    assert call("predict", f"ckpt_path={checkpoint}", f"images={root}", logs)[0] == 0
    (summary,) = (tmp_path / "logs" / "predict").glob("*/*/summary.json")
    assert json.loads(summary.read_text()) == {"images": 16, "skipped": {}}
    explained = (
        "method=scan,gradcam",
        "measure=true",
        "num_measured=2",
        "network=true",
        "layers=true",
    )
    assert call("explain", f"ckpt_path={checkpoint}", f"images={root}", *explained, logs)[0] == 0
    export = ("export=torchscript", f"ckpt_path={checkpoint}", f"output={tmp_path}/exported")
    assert call("export", *export, logs)[0] == 0
    assert (tmp_path / "exported" / "model.ts").is_file()
