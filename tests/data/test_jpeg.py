"""The fast decoder of JPEG files gives what Pillow gives: the same pixels, or the same error."""

import io

import numpy as np
import pytest
import torch
from image_bytes import encoded, exif_of
from PIL import Image

from mambavision_lab.data import jpeg
from mambavision_lab.data.decode import decode, to_an_eighth
from mambavision_lab.errors import ConfigError

# Both are libjpeg-turbo, whose versions may round differently; equal ones give equal pixels.
TOLERANCE = 1


@pytest.fixture
def fast():
    return pytest.importorskip("simplejpeg")


@pytest.fixture
def with_pillow(monkeypatch):
    """Decode without the fast path."""

    def decode_with_pillow(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(jpeg, "simplejpeg", None)
            return decode(*args, **options)

    return decode_with_pillow


@pytest.fixture
def counted(fast, monkeypatch):
    """Sizes that the fast decoder has given."""
    sizes = []

    def count(*args, **options):
        pixels = fast.decode_jpeg(*args, **options)
        sizes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(jpeg, "simplejpeg", type("Counted", (), {"decode_jpeg": count}))
    return sizes


def photograph(height=45, width=61, mode="RGB"):
    ys, xs = np.mgrid[:height, :width] / 8
    noise = np.random.default_rng(0).normal(0, 6, (height, width))
    colours = [127 + 60 * np.sin(xs + k) + 50 * np.cos(ys * (1 + k / 3)) + noise for k in range(3)]
    return Image.fromarray(np.stack(colours, 2).clip(0, 255).astype(np.uint8)).convert(mode)


def assert_same(actual, expected):
    assert actual.shape == expected.shape
    assert (actual.int() - expected.int()).abs().max() <= TOLERANCE


FILES = {
    "baseline": (photograph(), {"quality": 90}),
    "progressive": (photograph(), {"quality": 75, "progressive": True}),
    "4:4:4": (photograph(), {"subsampling": 0}),
    "4:2:2": (photograph(), {"subsampling": 1}),
    "grey": (photograph(mode="L"), {}),
    "1x1": (photograph(1, 1), {}),
    "a row": (photograph(1, 50), {}),
    **{f"orientation {k}": (photograph(), {"exif": b"Exif\0\0" + exif_of(k)}) for k in range(9)},
}


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("shrink", [None, lambda h, w: 2, lambda h, w: 4, to_an_eighth])
def test_fast_decoder_gives_pillows_pixels(counted, with_pillow, name, in_chans, shrink):
    image, options = FILES[name]
    data = encoded(image, "JPEG", **options)
    expected = with_pillow(data, in_chans, shrink=shrink)
    assert_same(decode(data, in_chans, shrink=shrink), expected)
    assert bool(counted) == (image.mode == "L" or in_chans == 3)  # else grey of colours, by Pillow


def test_fast_decoder_leaves_cmyk_and_other_formats_to_pillow(counted, with_pillow):
    cmyk = encoded(photograph(mode="CMYK"), "JPEG")
    png = encoded(photograph())
    for data in (cmyk, png):
        assert decode(data, 3).equal(with_pillow(data, 3))
    assert not counted


def damaged_files():
    data = encoded(photograph(), "JPEG")
    middle = len(data) // 2
    return {
        "cut": data[:middle],
        "cut in its header": data[:40],
        "without its last two bytes": data[:-2],
        "holes": data[:middle] + bytes(40) + data[middle + 40 :],
        "a header of a PNG": encoded(photograph())[:30] + data[30:],
        "empty": b"",
        "text": b"no image at all",
        "with a tail": data + b"appended by a camera",
        "stated larger": _resized(data, 90, 122),
        "stated smaller": _resized(data, 20, 30),
        "no pixels": _resized(data, 0, 0),
    }


def _resized(data, height, width):
    """A JPEG whose header states another size."""
    start = data.index(b"\xff\xc0") + 5
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return data[:start] + size + data[start + 4 :]


@pytest.mark.parametrize("name", damaged_files())
@pytest.mark.parametrize("shrink", [None, to_an_eighth])
def test_damaged_files_end_as_with_pillow_alone(fast, with_pillow, name, shrink):
    data = damaged_files()[name]
    found = [_outcome(read, data, shrink) for read in (decode, with_pillow)]
    if isinstance(found[1], str):
        assert found[0] == found[1]
        assert "\n" not in found[0]
    else:
        assert_same(*found)


def _outcome(read, data, shrink):
    try:
        return read(io.BytesIO(data), 3, shrink=shrink)
    except ConfigError as error:
        return str(error)


def test_jpeg_above_pillows_limit_is_decoded_at_an_eighth(counted, with_pillow, monkeypatch):
    data = encoded(photograph(80, 160), "JPEG")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 80 * 160 // 4)
    assert_same(decode(data, 3), with_pillow(data, 3))
    assert counted == [(10, 20, 3)]


def test_shrink_is_told_the_size_as_shown():
    seen = []
    for orientation in (1, 6):
        data = encoded(photograph(16, 32), "JPEG", exif=b"Exif\0\0" + exif_of(orientation))
        pixels = decode(data, 3, shrink=lambda height, width: seen.append((height, width)) or 2)
        assert tuple(pixels.shape[1:]) == (seen[-1][0] // 2, seen[-1][1] // 2)
    assert seen == [(16, 32), (32, 16)]
    png = decode(encoded(photograph(16, 32)), 3, shrink=to_an_eighth)
    assert png.shape == (3, 16, 32)


def test_pixels_are_writable_and_without_negative_strides(fast):
    for orientation in range(1, 9):
        pixels = decode(encoded(photograph(), "JPEG", exif=b"Exif\0\0" + exif_of(orientation)), 3)
        pixels += 1
        assert pixels.dtype == torch.uint8
