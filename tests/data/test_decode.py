"""Images from every source give their pixels, or are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from image_bytes import assert_pixels, encoded
from PIL import Image, ImageCms

from mambavision_lab.data.decode import decode, decode_stack, squash, to_an_eighth

# Two pixels high, three wide, no two alike: a turned or mirrored image shows.
PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14


def test_decode_gives_the_same_pixels_from_every_source(tmp_path):
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "a.png")
    chw = torch.from_numpy(PIXELS).permute(2, 0, 1)
    path = tmp_path / "a.png"
    for source in (path, str(path), path.read_bytes(), image, PIXELS, PIXELS / 255, chw, chw / 255):
        assert_pixels(decode(source, 3), PIXELS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")  # and its end is where it stands
    with path.open("rb") as file:
        for source in (file, buffer, bytearray(buffer.getvalue()), buffer.getbuffer()):
            for _ in range(2):
                assert_pixels(decode(source, 3), PIXELS)


def test_decode_applies_the_exif_orientation():
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    assert_pixels(decode(encoded(image, exif=exif), 3), np.rot90(PIXELS, -1))


def test_decode_keeps_the_colours_of_palette_and_rgba():
    image = Image.fromarray(PIXELS)
    assert_pixels(
        decode(encoded(image.quantize(6)), 3), np.asarray(image.quantize(6).convert("RGB"))
    )
    assert len(np.unique(decode(encoded(image.quantize(6)), 3).reshape(3, -1).T, axis=0)) == 6
    rgba = np.dstack([PIXELS, np.full((2, 3), 255, np.uint8)])
    assert_pixels(decode(encoded(Image.fromarray(rgba)), 3), PIXELS)
    assert_pixels(decode(rgba, 3), PIXELS)


def test_decode_takes_the_first_frame():
    frames = [Image.new("RGB", (2, 1), colour) for colour in ("red", "blue")]
    for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert decode(data, 3)[:, 0, 0].tolist() == [255, 0, 0], kind


def test_decode_ignores_colour_profiles():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert_pixels(decode(encoded(Image.fromarray(PIXELS), icc_profile=profile), 3), PIXELS)


def test_decode_reads_a_bit_and_a_pixel():
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert decode(encoded(bits), 3).tolist() == [[[0, 255]]] * 3
    assert decode(encoded(Image.new("RGB", (1, 1), (1, 2, 3))), 3).flatten().tolist() == [1, 2, 3]


def test_decode_turns_cmyk_into_colours():
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = decode(encoded(cyan, "JPEG", quality=100), 3)[:, 4, 4].tolist()
    assert (red < 5, green > 250, blue > 250) == (True, True, True)


def test_decode_takes_lab_in_grey_and_colour():
    lab = encoded(Image.new("LAB", (4, 4), (200, 128, 128)), "TIFF")
    colour = decode(lab, 3)[:, 2, 2]
    assert (colour.max() - colour.min()) <= 3
    assert abs(int(decode(lab, 1)[0, 2, 2]) - int(colour[1])) <= 2


def test_decode_makes_grey_and_colour():
    grey = np.array([[7, 200]], dtype=np.uint8)
    assert decode(grey, 3).tolist() == [[[7, 200]]] * 3
    red = np.array([[[255, 0, 0]]], dtype=np.uint8)
    assert decode(Image.fromarray(red), 1).tolist() == [[[76]]]  # 0.299 x 255
    assert decode(red, 1).tolist() == [[[76]]]


def test_decode_reports_truncated_and_foreign_files(tmp_path, refusal):
    missing = tmp_path / "missing.png"
    assert refusal(lambda: decode(missing, 3)) == f"{missing}: no such file; give an image"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("cut.jpg", "text.jpg"):
        path = tmp_path / name
        message = refusal(lambda path=path: decode(path, 3))
        assert message.startswith(f"{path}: cannot be read as an image")
        with path.open("rb") as file:
            assert refusal(lambda file=file: decode(file, 3)) == message
    floats = encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
    assert "floats of unknown range" in refusal(lambda: decode(floats, 3))
    assert refusal(lambda: decode(b"", 3)).startswith("bytes: cannot be read as an image")


@pytest.mark.parametrize("error", [struct.error, IndexError, KeyError, zlib.error, AssertionError])
def test_decode_reports_whatever_a_reader_raises(tmp_path, monkeypatch, refusal, error):
    def fail(image):
        raise error("no such table")

    path = tmp_path / "a.bmp"
    Image.new("L", (2, 2)).save(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert str(path) in refusal(lambda: decode(path, 3))
    assert str(path) in refusal(lambda: decode(Image.open(path), 3))


def test_decode_reads_a_jpeg_above_the_limit_at_an_eighth(monkeypatch, refusal):
    image = Image.new("L", (160, 80), 200)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 160 * 80 // 4)
    pixels = decode(encoded(image, "JPEG"), 3)
    assert pixels.shape == (3, 10, 20)
    assert pixels.unique().tolist() == [200]
    message = refusal(lambda: decode(encoded(image), 3))
    assert "has too many pixels" in message
    assert "PIL.Image.MAX_IMAGE_PIXELS" in message


def test_decode_as_a_draft_finds_what_is_cut_off(refusal):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for options in ({}, {"progressive": True}):
        data = encoded(Image.fromarray(noise), "JPEG", **options)
        assert decode(data, 3, shrink=to_an_eighth).shape == (3, 8, 8)
        assert "truncated" in refusal(lambda: decode(data[:-20], 3, shrink=to_an_eighth))  # noqa: B023


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (np.full((2, 2, 3), 1.5), "floats must lie in [0, 1]"),
        (np.full((2, 2, 3), np.nan), "floats must lie in [0, 1]"),
        (np.zeros((2, 2, 3), np.int64), "wanted uint8"),
        (np.zeros((2, 2, 2), np.uint8), "has 2 channels, the network takes 3"),
        (torch.zeros(1, 3, 2, 2), "wanted one image"),
        (torch.zeros(3, 0, 2), "wanted one image"),
    ],
)
def test_decode_refuses_arrays_that_are_no_image(source, named):
    with pytest.raises(ValueError, match="image of shape") as caught:
        decode(source, 3)
    assert named in str(caught.value)


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_decode_of_a_stack_is_that_of_each_image(in_chans, channels):
    images = np.random.default_rng(0).integers(256, size=(3, 5, 4, channels), dtype=np.uint8)
    for stack in (images, images / 255):
        each = [decode(image, in_chans, background=(9, 8, 7)) for image in stack]
        assert torch.equal(decode_stack(stack, in_chans, (9, 8, 7)), torch.stack(each))
    deep = np.zeros((3, 5, 4, 7), np.uint8)
    assert decode_stack(deep, 7).shape == (3, 7, 5, 4)


@pytest.mark.parametrize(
    ("stack", "named"),
    [
        (np.zeros((5, 4, 3), np.uint8), "wanted images of one size"),
        (np.zeros(4, np.uint8), "wanted images of one size"),
        (np.zeros((2, 0, 4, 3), np.uint8), "wanted images of one size"),
        (np.zeros((2, 5, 4, 2), np.uint8), "has 2 channels"),
        (np.full((2, 5, 4, 4), 1.5), "floats must lie in [0, 1]"),
    ],
)
def test_decode_refuses_arrays_that_are_no_stack(stack, named):
    with pytest.raises(ValueError, match="images of shape") as caught:
        decode_stack(stack, 3)
    assert named in str(caught.value)


def test_squash_leaves_the_right_size_alone():
    pixels = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4)
    assert squash(pixels, 4) is pixels
    assert squash(torch.full((1, 2, 8), 9, dtype=torch.uint8), 4).tolist() == [[[9] * 4] * 4]
