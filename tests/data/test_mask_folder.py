import numpy as np
import pytest
import torch
from PIL import Image

from mambavision_lab.data.mask_files import resize_masks
from mambavision_lab.data.mask_folder import MaskFolderDataModule, VolumeMaskFolderDataModule

SIZES = {"image_size": 8, "num_classes": 3, "mean": [0.5], "std": [0.3], "num_workers": 0}


def write_images(root, num=6, size=(12, 10)):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for k in range(num):
        mask = generator.integers(0, 3, size[::-1], dtype=np.uint8)
        Image.fromarray(mask * 100).save(root / "images" / f"{k}.png")
        Image.fromarray(mask).save(root / "masks" / f"{k}.png")
    return root


def make(root, **settings):
    return MaskFolderDataModule(root=str(root), **SIZES | {"in_chans": 1} | settings)


def make_3d(root, **settings):
    sizes = SIZES | {"in_chans": 1, "num_slices": 4}
    return VolumeMaskFolderDataModule(root=str(root), **sizes | settings)


def test_images_are_paired_with_masks_and_divided(tmp_path):
    splits = make(write_images(tmp_path), val_fraction=0.3).splits
    parts = [split.pairs for split in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [3, 1, 2]
    assert len({path for part in parts for path, _ in part}) == 6
    assert splits.class_names == ["background", "1", "2"]


def test_folders_of_splits_are_taken_as_they_are(tmp_path):
    for name, num in (("train", 4), ("val", 2), ("test", 3)):
        write_images(tmp_path / name, num)
    splits = make(tmp_path).splits
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [4, 2, 3]


def test_folders_of_splits_may_have_their_usual_names(tmp_path):
    for name, num in (("Train", 6), ("validation", 2)):
        write_images(tmp_path / name, num)
    splits = make(tmp_path).splits
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [5, 2, 1]
    (tmp_path / "Train").rename(tmp_path / "Testing")
    assert make(tmp_path).listing.describe_test() == f"all of {tmp_path}/Testing"


@pytest.mark.parametrize(
    ("names", "num", "folder"),
    [(["train", "val"], 2, "/val"), (["test"], 3, "/test"), ([""], 4, "")],
)
def test_evaluation_of_another_folder_takes_all_of_one_split(tmp_path, names, num, folder):
    for k, name in enumerate(names):
        write_images(tmp_path / name, num + len(names) - 1 - k)
    data = make(tmp_path)
    data.listing.use_all_for_test()
    splits = data.splits
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [0, 0, num]
    assert data.listing.describe_test() == f"all of {tmp_path}{folder}"


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_two_files_of_one_name_are_refused(tmp_path, refusal, folder):
    write_images(tmp_path)
    Image.new("L", (12, 10)).save(tmp_path / folder / "3.tif")
    message = refusal(lambda: make(tmp_path).splits)
    assert message.startswith(f"{tmp_path}/{folder}/3.tif: has the name of 3.png")


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_mask_fits_its_image(tmp_path, fit):
    data = make(write_images(tmp_path, size=(16, 16)), fit=fit, batch_size=2)
    images, masks, _ = next(iter(data.train_dataloader()))
    assert images.shape[2:] == masks.shape[1:] == (8, 8)
    if fit == "crop":
        assert torch.equal(images[:, 0].long(), 100 * masks)


def test_palette_gives_its_numbers(tmp_path):
    write_images(tmp_path)
    mask = Image.fromarray(np.full((10, 12), 2, np.uint8), "P")
    mask.putpalette([9, 9, 9, 8, 8, 8, 200, 7, 7])
    mask.save(tmp_path / "masks" / "0.png")
    train = make(tmp_path).splits.train
    train.pairs = [(str(tmp_path / "images/0.png"), str(tmp_path / "masks/0.png"))]
    assert train[0][1].unique().tolist() == [2]


def write_mask(values):
    def write(root):
        np.save(root / "masks" / "0.npy", values)
        (root / "masks" / "0.png").unlink()

    return write


def write_colours(root):
    Image.new("RGB", (12, 10)).save(root / "masks" / "0.png")


def truncate(root):
    path = root / "masks" / "0.png"
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (write_mask(np.full((10, 12), 0.5)), "are no integers"),
        (write_mask(np.full((10, 12), np.nan)), "are no integers"),
        (write_mask(np.full((10, 12), 3)), "has the value 3, and data.num_classes=3"),
        (write_mask(np.full((10, 12), -1)), "has the value -1"),
        (write_mask(np.zeros((12, 10), int)), "has 12 x 10 pixels, and its image 10 x 12"),
        (write_mask(np.zeros(3, int)), "wanted one class for each pixel"),
        (write_colours, "has the colours of RGB"),
        (truncate, "cannot be read as a mask"),
    ],
)
def test_mask_that_is_none_is_refused(tmp_path, refusal, damage, words):
    write_images(tmp_path)
    damage(tmp_path)
    splits = make(tmp_path).splits
    index = [
        (s, k)
        for s in (splits.train, splits.val, splits.test)
        for k, (path, _) in enumerate(s.pairs)
        if path.endswith("0.png")
    ]
    (split, k), *_ = index
    message = refusal(lambda: split[k])
    assert words in message
    assert "masks/0." in message


def test_missing_mask_or_folder_is_refused(tmp_path, refusal):
    write_images(tmp_path)
    (tmp_path / "masks" / "4.png").unlink()
    assert "images/4.png: has no mask" in refusal(lambda: make(tmp_path).splits)
    assert "no folder" in refusal(lambda: make(tmp_path / "images").splits)
    assert "wanted images/ and masks/" in refusal(lambda: make(tmp_path / "gone").splits)
    (tmp_path / "test").mkdir()
    assert "images/ holds images beside test/" in refusal(lambda: make(tmp_path).splits)
    write_images(tmp_path / "alone" / "test")
    assert "holds test, but no train" in refusal(lambda: make(tmp_path / "alone").splits)


def test_part_of_the_slices_is_refused(tmp_path, refusal):
    message = refusal(lambda: make_3d(tmp_path, slices="middle"))
    assert message == "data.slices=middle: masks are of whole volumes; give data.slices=all"


def test_image_smaller_than_its_window_is_refused(tmp_path, refusal):
    data = make(write_images(tmp_path), fit="crop", image_size=11)
    assert "has 10 x 12 pixels, less than the window" in refusal(lambda: data.splits.train[0])


def test_volumes_in_nifti_keep_their_masks(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(4):
        values = np.random.default_rng(k).integers(0, 3, (9, 10, 6)).astype(np.uint8)
        for folder, factor in (("images", 100), ("masks", 1)):
            image = nibabel.Nifti1Image(values * factor, np.diag([-1.0, 2, 3, 1]))
            nibabel.save(image, tmp_path / folder / f"{k}.nii.gz")
    data = make_3d(tmp_path)
    volume, mask = data.splits.train[0]
    assert volume.shape == (1, 4, 8, 8)
    assert torch.equal(volume[0].long(), 100 * mask)


def test_truncated_nifti_is_refused(tmp_path, refusal):
    nibabel = pytest.importorskip("nibabel")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for k in range(4):
            image = nibabel.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4))
            nibabel.save(image, tmp_path / folder / f"{k}.nii")
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(path.read_bytes()[:400])
    data = make_3d(tmp_path)
    assert "cannot be read as a volume" in refusal(lambda: data.splits.train[0])


def test_masks_are_checked_before_a_training(tmp_path, refusal, caplog):
    write_images(tmp_path)
    truncate(tmp_path)
    state = torch.get_rng_state()
    message = refusal(make(tmp_path).prepare_data)
    assert "1 of the images with masks cannot be read: " in message
    assert "masks/0.png: cannot be read as a mask" in caplog.text
    assert len(make(tmp_path, fit="crop", image_size=11).find_bad_images()) == 6
    assert torch.equal(torch.get_rng_state(), state)
    make(tmp_path, check_files=False).prepare_data()


@pytest.mark.parametrize("sides", [(11, 11), (11, 33), (3, 99)])
def test_resized_masks_stay_where_they_are(sides):
    axis = torch.linspace(-1, 1, 33)
    discs = (axis**2 + axis[:, None] ** 2 < torch.tensor([0.2, 0.6])[:, None, None]).long()
    resized = resize_masks(discs, sides)
    assert resized.shape == (2, *sides)
    assert torch.equal(resized, resized.flip(1, 2))
    assert resize_masks(discs, (33, 33)) is discs
