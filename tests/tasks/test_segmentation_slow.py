"""A segmentation's run, from training to exported files, on images and on volumes."""

import json

import numpy as np
import pytest
from PIL import Image

FAST = (
    *("trainer.max_epochs=2", "scheduler.warmup_epochs=0", "trainer=cpu"),
    *("model.encoder_options.depths=[1,1,1,1]", "data.batch_size=8", "callbacks=ema"),
)
SPLITS = ("data.num_train=16", "data.num_val=4", "data.num_test=6")


def read(path):
    return json.loads(path.read_text())


@pytest.mark.slow
def test_images_are_segmented_by_a_run(call, tmp_path):
    size = ("data.image_size=32", "data.num_workers=0")
    counted = "classifier.include_background=true"
    status, out, err = call("train", "experiment=segmentation", counted, *SPLITS, *FAST, *size)
    assert status == 0, err
    run = tmp_path / "logs" / "latest"
    metrics = read(run / "metrics.json")
    assert {"val/dice", "val/miou", "test/dice"} <= set(metrics)
    page = (run / "report.html").read_text()
    assert "Lowest Dice" in page
    assert "Mean Dice" in page

    status, out, _ = call("eval", f"from_run={run}")
    assert status == 0
    assert f"{metrics['test/dice']:.2%}" in out
    status, _, err = call("eval", f"from_run={run}", "data=synthetic")
    assert (status, "is for classes of images" in err) == (2, True)

    for name, sides in (("small", (20, 24)), ("large", (70, 50))):
        pixels = np.random.default_rng(0).integers(0, 256, (*sides, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "bad.png").write_text("no image")
    status, out, err = call("predict", f"from_run={run}", f"images={tmp_path / 'photos'}")
    assert status == 0, err
    (folder,) = (tmp_path / "logs" / "predict").glob("*/*")
    with Image.open(folder / "masks" / "large.png") as mask:
        assert (mask.size, mask.mode) == ((50, 70), "P")
        assert np.asarray(mask).max() < 6
    assert "bad.png" in str(read(folder / "summary.json")["skipped"])
    assert (folder / "overlays" / "small.png").is_file()

    status, out, err = call("export", f"from_run={run}", "export=onnx")
    assert status == 0, err
    exported = f"model_file={run / 'exports' / 'model.onnx'}"
    data = ("data=synthetic_segmentation", *SPLITS, "data.num_workers=0", "trainer=cpu")
    status, out, err = call("eval", exported, *data)
    assert status == 0, err
    file = max((tmp_path / "logs" / "eval").rglob("metrics.json"), key=lambda x: x.stat().st_mtime)
    assert read(file)["test/dice"] == pytest.approx(metrics["test/dice"], abs=1e-4)
    for task in ("serve", "explain"):
        status, _, err = call(task, f"from_run={run}")
        assert status == 2, err
        assert "gives masks" in err

    status, _, err = call(
        "train",
        "-m",
        "experiment=segmentation",
        *SPLITS,
        *FAST,
        *size,
        "seed=1,2",
        "trainer.max_epochs=1",
    )
    assert status == 0, err


@pytest.mark.slow
def test_volumes_are_segmented_by_a_run(call, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    size = ("data.image_size=16", "data.num_slices=8", "data.num_workers=0")
    status, _, err = call("train", "experiment=segmentation_3d", *SPLITS, *FAST, *size)
    assert status == 0, err
    run = tmp_path / "logs" / "latest"
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, 7], [0, 0, 3, -9], [0, 0, 0, 1]])
    values = np.random.default_rng(0).normal(size=(20, 22, 11)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
    status, _, err = call("predict", f"from_run={run}", f"images={tmp_path / 'scan.nii.gz'}")
    assert status == 0, err
    (folder,) = (tmp_path / "logs" / "predict").glob("*/*")
    mask = nibabel.load(folder / "masks" / "scan.nii.gz")
    assert mask.shape == values.shape
    np.testing.assert_allclose(mask.affine, affine)
    assert mask.get_data_dtype() == np.uint8
    with Image.open(folder / "overlays" / "scan.png") as overlay:
        assert overlay.size == (8 * 22, 20)  # eight slices side by side, in canonical orientation
    assert 'class="pictures strips"' in (run / "report.html").read_text()
