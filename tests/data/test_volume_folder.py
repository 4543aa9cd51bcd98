import sys

import numpy as np
import pytest
import torch
from volume_bytes import ramp, write_nifti, write_series

from mambavision_lab.data.create import create_datamodule
from mambavision_lab.data.fit_volume import FitVolume
from mambavision_lab.data.read_volume import read_volume


def write_classes(root, num=4, sides=(6, 8, 8)):
    for label, name in enumerate(("calm", "rough")):
        (root / name).mkdir(parents=True)
        for k in range(num):
            np.save(root / name / f"{k}.npy", np.full(sides, 40 * k + label, np.uint8))
    return root


def make(root, **options):
    return create_datamodule(
        "volume_folder",
        **{"root": root, "num_slices": 6, "image_size": 8, "batch_size": 2} | options,
    )


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_nifti_is_read_with_its_spacing_whatever_its_orientation(tmp_path, suffix):
    volume = ramp(5, 4, 3)
    plain = read_volume(write_nifti(tmp_path / f"a.{suffix}", volume, (3.0, 1.0, 0.5)))
    assert plain.spacing == (3.0, 1.0, 0.5)
    assert np.array_equal(plain.values, volume[None])
    turned = read_volume(
        write_nifti(tmp_path / f"b.{suffix}", volume[::-1, :, ::-1], (3.0, 1.0, 0.5), (-1, 1, -1))
    )
    assert np.array_equal(turned.values, volume[None])


def test_dicom_slices_are_sorted_by_place_and_scaled(tmp_path):
    volume = ramp(7, 4, 5, dtype=np.uint16)
    folder = write_series(
        tmp_path / "scan", volume, gap=2.5, RescaleSlope=2, RescaleIntercept=-1000
    )
    found = read_volume(folder)
    assert found.spacing == (2.5, 0.5, 0.5)
    assert np.array_equal(found.values, volume[None] * 2.0 - 1000)
    numbered = {"ImagePositionPatient": None, "SliceThickness": 4.0, "RescaleSlope": 1}
    unplaced = read_volume(write_series(tmp_path / "numbered", volume, **numbered))
    assert unplaced.spacing == (4.0, 0.5, 0.5)
    assert np.array_equal(unplaced.values, volume[None])


def test_volumes_are_resampled_to_a_spacing_and_cut_about_their_centre(tmp_path):
    volume = np.zeros((4, 8, 8), np.uint8)
    volume[:, 2:6, 2:6] = 200
    path = write_nifti(tmp_path / "a.nii", volume, (2.0, 1.0, 1.0))
    fitted = FitVolume(8, 6, 1, spacing=(1.0, 1.0, 1.0))(path)
    assert fitted.shape == (1, 8, 6, 6)  # 4 slices of 2 mm are 8 of 1 mm
    assert torch.equal(fitted[0, 0], fitted[0, 7])
    assert fitted[0, 3].sum() == 200 * 16
    wide = FitVolume(12, 10, 3, spacing=(1.0, 1.0, 1.0))(path)
    assert wide.shape == (3, 12, 10, 10)
    assert wide[:, [0, 1, 10, 11]].sum() == 0
    assert wide.sum() == 3 * 8 * 200 * 16


def test_values_become_black_and_white_by_range_or_by_volume(tmp_path):
    np.save(
        tmp_path / "a.npy", np.linspace(-1000, 1000, 1000, dtype=np.float32).reshape(10, 10, 10)
    )
    given = FitVolume(10, 10, 1, value_range=(-160.0, 240.0))(tmp_path / "a.npy")
    assert (given == 0).float().mean() == pytest.approx(0.42, abs=0.01)
    own = FitVolume(10, 10, 1)(tmp_path / "a.npy")
    assert (own.min(), own.max()) == (0, 255)
    assert own.float().mean() == pytest.approx(127.5, abs=1)


def test_volume_folder_trains_on_class_folders_reproducibly(tmp_path):
    write_classes(tmp_path)
    data = make(tmp_path, num_workers=1)
    assert data.class_names == ["calm", "rough"]
    assert [len(getattr(data.splits, part)) for part in ("train", "val", "test")] == [4, 2, 2]
    data.prepare_data()
    images, labels, _ = next(iter(data.train_dataloader()))
    assert images.shape == (2, 1, 6, 8, 8)
    assert (images.flatten(1)[:, 0] % 40 == labels).all()
    middle = make(tmp_path, slices="middle").splits.test[0][0]
    assert middle.shape == (1, 8, 8)


def test_volume_folder_takes_series_and_a_csv(tmp_path):
    for k in range(3):
        write_series(tmp_path / "x" / f"scan{k}", ramp(3, 4, 4))
        write_series(tmp_path / "y" / f"scan{k}", ramp(3, 4, 4))
    data = make(tmp_path)
    assert data.class_names == ["x", "y"]
    assert len(data.splits.train) == 2
    rows = [f"{c}/scan{k},{c}{c},{s}" for c in "xy" for k, s in enumerate(("train", "val", "test"))]
    (tmp_path / "rows.csv").write_text("file,label,split\n" + "\n".join(rows))
    listed = make(tmp_path, labels_file="rows.csv")
    assert listed.class_names == ["xx", "yy"]
    assert listed.splits.val[1][1] == 1


def test_damaged_volumes_are_listed_before_a_training(tmp_path, refusal, caplog):
    write_classes(tmp_path)
    whole = write_nifti(tmp_path / "calm" / "x.nii.gz", ramp(6, 8, 8)).read_bytes()
    (tmp_path / "calm" / "x.nii.gz").write_bytes(whole[: len(whole) // 2])
    message = refusal(make(tmp_path).prepare_data)
    assert "1 of the volumes cannot be read:" in message
    assert "x.nii.gz: cannot be read as a volume" in caplog.text


def case_truncated(tmp_path):
    path = write_nifti(tmp_path / "a.nii", ramp(6, 8, 8))
    path.write_bytes(path.read_bytes()[:400])
    return path


def case_sizes(tmp_path):
    write_series(tmp_path / "s", ramp(2, 4, 4), uid="1.2.3")
    last = write_series(tmp_path / "t", ramp(3, 4, 5), uid="1.2.3")
    (last / "014.dcm").rename(tmp_path / "s" / "014.dcm")
    return tmp_path / "s"


def case_missing_slice(tmp_path):
    folder = write_series(tmp_path / "s", ramp(6, 4, 4))
    (folder / "014.dcm").unlink()
    return folder


def case_two_series(tmp_path):
    write_series(tmp_path / "s", ramp(2, 4, 4))
    write_series(tmp_path / "t", ramp(3, 4, 4))
    (tmp_path / "t" / "014.dcm").rename(tmp_path / "s" / "014.dcm")
    return tmp_path / "s"


def case_text(tmp_path):
    (tmp_path / "a.nii").write_text("no volume")
    return tmp_path / "a.nii"


def case_no_dicom(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "0.dcm").write_text("no slice")
    return tmp_path / "s"


def saved(array):
    def case(tmp_path):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        return tmp_path / "a.npy"

    return case


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (case_truncated, "a.nii: cannot be read as a volume ("),
        (case_text, "a.nii: cannot be read as a volume ("),
        (case_no_dicom, "s: cannot be read as a volume ("),
        (case_sizes, "its slice has 4 x 5 pixels, others 4 x 4; wanted slices of one size"),
        (case_missing_slice, "its slices lie 2 to 4 mm apart; wanted equal gaps"),
        (case_two_series, "holds slices of several series; wanted a folder for each"),
        (saved(np.zeros((4, 4))), "holds float64 of shape (4, 4); wanted numbers (D, H, W)"),
        (saved(np.zeros((2, 4, 4, 4))), "a.npy: has 2 channels; wanted 1 or 1"),
        (saved(np.zeros((0, 4, 4))), "shape (0, 4, 4)"),
        (saved(np.array([{"a": 1}])), "cannot be read as a volume (Object arrays"),
        (saved(np.zeros((3, 4, 4), complex)), "holds complex128"),
        (lambda folder: folder / "gone.npy", "gone.npy: cannot be read as a volume ("),
    ],
)
def test_volumes_that_are_none_are_refused_in_one_line(tmp_path, refusal, case, message):
    path = case(tmp_path)
    found = refusal(lambda: FitVolume(4, 4, 1)(path))
    assert message in found
    assert "\n" not in found


def test_missing_spacing_and_zero_are_refused_where_one_is_wanted(tmp_path, refusal):
    np.save(tmp_path / "a.npy", ramp(4, 4, 4))
    zero = write_nifti(tmp_path / "b.nii", ramp(4, 4, 4))
    content = bytearray(zero.read_bytes())
    content[80:92] = np.zeros(3, "<f4").tobytes()  # pixdim
    content[254:256] = np.int16(0).tobytes()  # sform_code
    zero.write_bytes(content)
    for path in (tmp_path / "a.npy", zero):
        message = refusal(lambda path=path: FitVolume(4, 4, 1, spacing=(1.0, 1.0, 1.0))(path))
        assert (
            "its spacing is missing or zero, and data.spacing=[1.0, 1.0, 1.0] is wanted" in message
        )
    tiny = write_nifti(tmp_path / "c.nii", ramp(4, 4, 4), (5000.0, 1.0, 1.0))
    assert "wanted at most 4096 a side" in refusal(
        lambda: FitVolume(4, 4, 1, (1.0, 1.0, 1.0))(tiny)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": 0}, "data.spacing=0: wanted millimetres above 0"),
        ({"spacing": [1, 1]}, "data.spacing=[1, 1]: wanted"),
        ({"spacing": [1, 1, -1]}, "data.spacing=[1, 1, -1]: wanted"),
        ({"value_range": [1, 1]}, "data.value_range=[1, 1]: wanted [LOW,HIGH]"),
        ({"num_slices": 0}, "data.num_slices=0 must be at least 1"),
        ({"slices": "last"}, "data.slices=last is unknown"),
    ],
)
def test_impossible_settings_of_volume_folder_are_refused(tmp_path, refusal, options, message):
    write_classes(tmp_path, 3)
    assert message in refusal(lambda: make(tmp_path, **options))


def test_loose_slices_and_empty_classes_are_refused(tmp_path, refusal):
    write_series(tmp_path / "x", ramp(3, 4, 4))
    write_series(tmp_path / "y" / "scan", ramp(3, 4, 4))
    assert "000.dcm lies among volumes; wanted a folder for each" in refusal(
        lambda: make(tmp_path).splits
    )
    write_classes(tmp_path / "z", 3)
    (tmp_path / "z" / "empty").mkdir()
    assert "holds no volumes, but nothing" in refusal(lambda: make(tmp_path / "z").splits)
    assert "holds no class folders, but 3 volumes" in refusal(
        lambda: make(tmp_path / "z" / "calm", num_classes=2).splits
    )


def test_missing_package_is_named_once_and_not_for_each_file(tmp_path, refusal, monkeypatch):
    for name in ("a", "b"):
        for k in range(3):
            write_nifti(tmp_path / name / f"{k}.nii", ramp(3, 4, 4))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    message = refusal(make(tmp_path).prepare_data)
    assert message.startswith("a volume in NIfTI needs nibabel; install it with: ")
