import math

import pytest
import torch
from image_bytes import encoded
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.image_files import ImageFiles
from mambavision_lab.data.random_crop import Crop, RandomCrop

# Mean difference, of 255, between a part of a smooth image that was decoded smaller and one decoded in full:
# the decoder averages squares of pixels, and the part begins and ends at whole pixels of what is decoded.
# Another crop differs by 20.
SHRUNK_TOLERANCE = 4.0


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (9, 300), (1, 1), (1, 500)])
def test_boxes_lie_in_the_image_and_have_the_area_asked_for(size):
    height, width = size
    torch.manual_seed(0)
    for _ in range(200):
        top, left, part_height, part_width = RandomCrop(8, [0.2, 0.8]).draw().box(height, width)
        assert 0 <= top <= top + part_height <= height
        assert 0 <= left <= left + part_width <= width
        assert part_height * part_width >= 1
        if min(size) == 60:
            assert 0.18 < part_height * part_width / (height * width) < 0.83
            assert 0.7 < part_width / part_height < 1.4


def test_boxes_are_spread_as_torchvisions():
    torch.manual_seed(0)
    crop, theirs = RandomCrop(8, [0.08, 1.0]), v2.RandomResizedCrop(8, scale=(0.08, 1.0))
    image = torch.zeros(1, 375, 500, dtype=torch.uint8)
    ours = torch.tensor([crop.draw().box(375, 500) for _ in range(3000)], dtype=torch.float32)
    other = torch.tensor(
        [[*theirs.make_params([image]).values()] for _ in range(3000)], dtype=torch.float32
    )
    error = 5 * ours.std(0) * math.sqrt(2 / 3000)
    assert ((ours.mean(0) - other.mean(0)).abs() < error).all()


def test_crop_resizes_its_part_as_torchvision_does():
    image = torch.randint(256, (3, 30, 40), dtype=torch.uint8)
    crop = Crop(8, [0, 1], [[2.0, 0.5, 0, 0], [0.25, 0.5, 0.5, 0.999]])  # the first does not fit
    assert crop.box(30, 40) == (6, 23, 17, 17)
    assert crop(image).equal(TF.resized_crop(image, 6, 23, 17, 17, [8, 8], antialias=True))


def test_strip_keeps_its_middle():
    crop = RandomCrop(8, [0.9, 1.0]).draw()
    assert crop.box(6, 1000) == (0, 496, 6, 8)
    assert crop.box(1000, 6) == (496, 0, 8, 6)


@pytest.mark.parametrize(("share", "divisor"), [(1.0, 4), (0.3, 2), (0.05, 1)])
def test_shrinking_leaves_enough_pixels(share, divisor):
    crop = Crop(20, [0, 1], [[share, 0.5, 0.5, 0.5]])
    assert crop.shrink(90, 100) == divisor


def test_files_are_decoded_smaller_where_the_crop_allows_it(tmp_path, monkeypatch):
    torch.manual_seed(0)
    smooth = TF.resize(torch.randint(256, (3, 4, 6)).float(), [160, 240]).clamp(0, 255).byte()
    TF.to_pil_image(smooth).save(tmp_path / "a.jpg", quality=95)
    files = ImageFiles([(tmp_path / "a.jpg", 0)], 3, RandomCrop(32, [0.8, 1.0]))
    decoded = []
    original = files.decode

    def decode(path, shrink=None):
        decoded.append(original(path, shrink))
        return decoded[-1]

    monkeypatch.setattr(files, "decode", decode)
    torch.manual_seed(1)
    shrunk = files[0][0]
    assert decoded[0].shape == (3, 40, 60)
    torch.manual_seed(1)
    full = RandomCrop(32, [0.8, 1.0]).draw()(original(tmp_path / "a.jpg"))
    assert (shrunk.int() - full.int()).abs().float().mean() < SHRUNK_TOLERANCE


def test_tiny_jpeg_is_enlarged(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(Image.new("RGB", (1, 1), (9, 9, 9)), "JPEG"))
    image, _ = ImageFiles([(tmp_path / "a.jpg", 0)], 3, RandomCrop(16, [0.1, 1.0]))[0]
    assert image.shape == (3, 16, 16)
    assert image.unique().tolist() == [9]


def test_interpolation_is_the_given_one_or_drawn():
    photo = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    tries = [[1.0, 0.5, 0.0, 0.0]]
    found = {mode: Crop(16, [0, 1], tries, mode)(photo) for mode in ("bilinear", "bicubic")}
    for mode, cropped in found.items():
        expected = TF.resize(photo, [16, 16], v2.InterpolationMode(mode), antialias=True)
        assert (cropped.int() - expected.int()).abs().max() <= 1
    assert not found["bilinear"].equal(found["bicubic"])
    drawn = [RandomCrop(16, [0.5, 1.0], "random").draw().interpolation for _ in range(40)]
    assert set(drawn) == {v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC}
