import numpy as np
import pytest
import torch
from PIL import Image

from mambavision_lab.data.read_volume import read_volume
from mambavision_lab.tasks import predict
from mambavision_lab.tasks.predict_masks import write_mask

AFFINES = {
    "canonical": np.diag([2.0, 1, 3, 1]),
    "turned": np.array([[0, -2.0, 0, 5], [1.5, 0, 0, 7], [0, 0, -3, -9], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("name", AFFINES)
def test_nifti_mask_lies_where_its_source_does(tmp_path, name):
    nibabel = pytest.importorskip("nibabel")
    values = np.arange(5 * 6 * 4).reshape(5, 6, 4).astype(np.uint8)
    source, target = tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, AFFINES[name]), source)
    read = torch.from_numpy(read_volume(source).values[0].copy())  # as a network that repeats it
    write_mask(read, str(source), target, num_classes=200)
    written = nibabel.load(target)
    assert np.array_equal(np.asanyarray(written.dataobj), values)
    np.testing.assert_allclose(written.affine, AFFINES[name])


def test_png_mask_has_its_classes_and_colours(tmp_path):
    mask = torch.tensor([[0, 1], [2, 5]])
    write_mask(mask, "photo.jpg", tmp_path / "photo.png", num_classes=6)
    with Image.open(tmp_path / "photo.png") as image:
        assert np.asarray(image).tolist() == mask.tolist()
        colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len({tuple(colour) for colour in colours}) == 4
    assert colours[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("given", ["format=jsonl", "top_k=1", "threshold=0.2", "batch_size=8"])
def test_settings_of_classes_are_refused_for_masks(given, monkeypatch, refusal):
    monkeypatch.setattr(predict, "given_overrides", lambda: ["images=x", given])
    assert refusal(predict._refuse_settings_of_classes).startswith(
        f"{given}: the network gives masks"
    )
    monkeypatch.setattr(predict, "given_overrides", lambda: ["images=x", "num_pictures=3"])
    predict._refuse_settings_of_classes()
