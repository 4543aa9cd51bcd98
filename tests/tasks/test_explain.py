"""explain.py as a user runs it: the page, overlays, measures, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from task_options import TRAIN

from mambavision_lab import MambaVisionInference


@pytest.fixture
def run(call, tmp_path):
    """A finished run of a toy network."""
    assert call("train", *TRAIN)[0] == 0
    return tmp_path / "logs" / "latest"


def test_explain_shows_images_skips_damaged_ones_and_measures(call, run, tmp_path, refusal):
    report = (run / "report.html").read_text()
    assert "what the network looked at" in report
    assert np.load(run / "predictions.npz")["random_maps"].dtype == np.uint8

    photos = tmp_path / "photos" / "ring-plain"
    photos.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:300])
    options = ["method=scan,attention", "target=true", "layers=true", "measure=true"]
    status, out, err = call(
        "explain", f"from_run={run}", f"images={photos}", *options, "num_measured=2"
    )
    assert (status, err) == (0, "")
    assert "1 image explained, 1 skipped" in out
    (folder,) = (tmp_path / "logs" / "explain").glob("*/*")
    page = (folder / "explain.html").read_text()
    assert "explained: ring-plain" in page
    assert page.count('alt="scan: implicit attention') == 1
    assert "http" not in page.replace("http://www.w3.org", "")
    names = sorted(path.name for path in (folder / "overlays").iterdir())
    assert names == ["00-attention.png", "00-scan.png"]
    measures = json.loads((folder / "measures.json").read_text())
    assert {"scan", "attention", "centre", "random"} < {*measures}
    assert {"deletion", "insertion", "pointing", "far", "correlation"} < {*measures["scan"]}

    inference = MambaVisionInference(run, device="cpu")
    found = inference.explain(photos / "a.png", method="scan", target="ring-plain")
    assert found.map.shape == (32, 32)
    assert "did you mean ring-plain" in refusal(
        lambda: inference.explain(pixels, target="ring-plan")
    )

    given = ["explain", f"from_run={run}"]
    shutil.copy(photos / "a.png", tmp_path / "a.png")
    for wrong, named in (
        (["target=ring-plan"], "did you mean ring-plain"),
        (
            [f"images={tmp_path}/a.png", "target=true"],
            "target=true: the class of a.png is not known",
        ),
        (["method=[]"], "wanted one or more of"),
        (["method=scan,rolout"], "did you mean rollout"),
        (["top_k=0"], "top_k=0: wanted 1 or more"),
        ([f"images={tmp_path}/none"], "no images there"),
    ):
        status, _, err = call(*given, *wrong)
        assert status == 2, wrong
        assert named in err
        assert err.count("\n") == 1


def test_report_without_maps_has_none(call, tmp_path):
    assert call("train", *TRAIN, "callbacks.predictions.explain=null")[0] == 0
    run = tmp_path / "logs" / "latest"
    assert "random_maps" not in np.load(run / "predictions.npz")
    assert "what the network looked at" not in (run / "report.html").read_text()
