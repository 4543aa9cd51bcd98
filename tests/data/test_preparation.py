import numpy as np
import pytest
import torch
from tolerances import assert_close
from volume_bytes import ramp, write_nifti, write_series, write_video

from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.folders import CLIPS, IMAGES, VOLUMES
from mambavision_lab.data.preparation import preparation_of
from mambavision_lab.data.volumes import side_by_side
from mambavision_lab.tasks.predict import contact_sheet, find_images


def as_stored(data):
    """A data module's metadata, as a checkpoint keeps them of a network's preprocessing."""
    return {key: value for key, value in data.metadata().items() if key != "class_names"}


def test_volumes_are_prepared_as_they_were_for_training(tmp_path):
    for name in ("a", "b"):
        for k in range(3):
            volume = ramp(5, 9, 9).astype(np.int16) * 7 - 400 + k
            write_nifti(tmp_path / name / f"{k}.nii.gz", volume, (2.0, 1.0, 1.0))
    data = create_datamodule(
        "volume_folder",
        **{"root": tmp_path, "num_slices": 8, "image_size": 8, "spacing": [1.5, 1, 1]},
        **{"value_range": [-300, 900], "mean": [0.4], "std": [0.3]},
    )
    prepared = preparation_of(as_stored(data), "run")
    assert prepared.kind is VOLUMES
    assert prepared.sides == data.sides == (8, 8, 8)
    path, _ = data.splits.test.items[0]
    pixels = prepared.prepare(path)
    assert torch.equal(pixels, data.splits.test[0][0])
    images, _ = data.prepare_batch((pixels[None], torch.zeros(1).long()))
    assert_close(prepared.normalize(pixels[None]), images, torch.float32)
    plain = preparation_of(as_stored(data) | {"spacing": None}, "run")
    assert plain.prepare(np.zeros((8, 8, 8))).shape == (1, 8, 8, 8)


def test_clips_are_prepared_as_they_were_for_evaluation(tmp_path):
    for name in ("a", "b"):
        for k in range(3):
            write_video(tmp_path / name / f"{k}.mp4", 12, step=8 + k)
    options = {"root": tmp_path, "num_slices": 4, "frame_stride": 2, "image_size": 16}
    data = create_datamodule("video_folder", augment="clips", **options)
    prepared = preparation_of(as_stored(data), "run")
    assert prepared.kind is CLIPS
    path, _ = data.splits.val.items[0]
    pixels = prepared.prepare(path)
    assert torch.equal(pixels, data.splits.val[0][0])
    images, _ = data.prepare_batch((pixels[None], torch.zeros(1).long()))
    assert_close(prepared.normalize(pixels[None]), images, torch.float32)


def test_network_of_the_middle_slice_takes_images():
    data = create_datamodule("synthetic_volumes", slices="middle")
    settings = {"keeps_aspect": False, "num_slices": 16, "slices": "middle", "in_chans": 1}
    settings |= {"image_size": 16, "mean": data.mean, "std": data.std}
    assert preparation_of(settings, "run").kind is IMAGES
    assert preparation_of(settings | {"slices": "all"}, "run").sides == (16, 16, 16)


def test_volumes_and_clips_are_found_as_files_and_folders(tmp_path):
    write_series(tmp_path / "scans" / "one", ramp(3, 4, 4))
    np.save(tmp_path / "scans" / "two.npy", ramp(3, 4, 4))
    (tmp_path / "scans" / "notes.txt").write_text("no volume")
    names = [str(tmp_path / "scans" / name) for name in ("one", "two.npy")]
    assert find_images(str(tmp_path), VOLUMES) == names
    assert find_images(names[0], VOLUMES) == names[:1]
    assert find_images(f"{tmp_path}/scans/*", VOLUMES) == names


def test_eight_slices_of_a_volume_lie_side_by_side():
    volume = torch.arange(15).view(1, 15, 1, 1).expand(2, 15, 3, 4)
    assert side_by_side(volume)[1, 0, ::4].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert side_by_side(volume[:, :3]).shape == (2, 3, 12)
    assert torch.equal(side_by_side(volume[:, 3]), volume[:, 3])


def test_contact_sheet_shows_four_slices_of_a_volume():
    volume = torch.zeros(1, 8, 4, 4, dtype=torch.uint8)
    volume[:, 1], volume[:, 3], volume[:, 5], volume[:, 7] = 40, 90, 140, 190
    sheet = contact_sheet([("a.npy", volume, [("x", 1.0)])]).convert("L")
    places = ((20, 20), (120, 20), (20, 120), (120, 120))
    assert [sheet.getpixel((x + 4, y + 4)) for x, y in places] == [40, 90, 140, 190]
    two_channels = contact_sheet([("a.npy", torch.cat([volume, volume]), [("x", 1.0)])])
    assert two_channels.convert("L").getpixel((24, 24)) == 40


def test_means_of_other_channels_are_refused(refusal):
    settings = {
        "image_size": 8,
        "in_chans": 3,
        "mean": [0.5, 0.4],
        "std": [0.3],
        "keeps_aspect": True,
    }
    message = refusal(lambda: preparation_of(settings, "model.onnx"))
    assert message == "model.onnx: gives 2 means or deviations of 3 channels; train it again"
    prepared = preparation_of(settings | {"mean": [0.5], "background": None}, "model.onnx")
    assert prepared.mean == [0.5] * 3
    transparent = np.zeros((8, 8, 4), dtype=np.uint8)
    assert prepared.prepare(transparent).min() == 255  # on white


@pytest.mark.parametrize("keeps_aspect", [False, True])
def test_stack_is_prepared_as_each_image(keeps_aspect):
    settings = {"image_size": 16, "in_chans": 3, "mean": [0.4] * 3, "std": [0.3] * 3}
    prepared = preparation_of({**settings, "keeps_aspect": keeps_aspect}, "run")
    for size in ((16, 16), (40, 30), (9, 25)):
        images = np.random.default_rng(0).integers(256, size=(3, *size, 3), dtype=np.uint8)
        each = torch.stack([prepared.prepare(image) for image in images])
        assert torch.equal(prepared.prepare_stack(images), each)
