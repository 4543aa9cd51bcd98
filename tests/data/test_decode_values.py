"""Values of more than 8 bits become grey levels by the range that is given or stated."""

import numpy as np
import pytest
from image_bytes import (
    SIXTEEN_BITS,
    TWELVE_BITS,
    assert_pixels,
    chunk,
    exif_of,
    pgm,
    png,
    tiff,
    tiff_by_hand,
)
from PIL import Image

from mambavision_lab.data.decode import decode
from mambavision_lab.errors import ConfigError

# Values in a file, the range that is given -> the grey levels.
DEEP = {
    "16 bits": (png(np.array([SIXTEEN_BITS])), None, [0, 1, 128, 255]),
    "16 bits, range given": (png(np.array([TWELVE_BITS])), (0, 4095), [0, 0, 128, 255]),
    "below and above the range": (png(np.array([[0, 99, 200, 301]])), (100, 300), [0, 0, 128, 255]),
    "sBIT": (png(np.array([TWELVE_BITS]), chunk(b"sBIT", b"\x0c")), None, [0, 0, 128, 255]),
    "sBIT, scaled up": (
        png(np.array([TWELVE_BITS]) << 4, chunk(b"sBIT", b"\x0c")),
        None,
        [0, 0, 128, 255],
    ),
    "sBIT, scaled up and dark": (
        png(np.array([[0, 160, 1600]]), chunk(b"sBIT", b"\x0c")),
        None,
        [0, 1, 6],
    ),
    "sBIT, range given": (
        png(np.array([[0, 1, 2]]), chunk(b"sBIT", b"\x0c")),
        (0, 2),
        [0, 128, 255],
    ),
    "TIFF": (tiff(SIXTEEN_BITS, np.uint16), None, [0, 1, 128, 255]),
    "TIFF, SMax": (tiff([0, 50, 99], np.uint16, tiffinfo={341: 100}), None, [0, 128, 252]),
    "TIFF, SMin and SMax": (
        tiff([0, 150, 200], np.uint16, tiffinfo={340: 100, 341: 200}),
        None,
        [0, 128, 255],
    ),
    "TIFF, MinSample and MaxSample": (
        tiff([0, 150, 200], np.uint16, tiffinfo={280: 100, 281: 200}),
        None,
        [0, 128, 255],
    ),
    "TIFF of 12 bits": (
        tiff_by_hand("<", 2, (12,), b"\x80\x0f\xff"),
        None,
        [128, 255],
    ),
    "TIFF of 32 bits": (tiff([0, 65535, 10**6], np.int32), None, [0, 255, 255]),
    "TIFF of 32 bits, range given": (tiff([-10, 0, 10], np.int32), (-10, 10), [0, 128, 255]),
    "floats": (
        tiff([np.nan, 20.0, 25.0, 30.0, np.inf], np.float32),
        (20, 30),
        [0, 0, 128, 255, 255],
    ),
    "PGM": (pgm([0, 512, 1023], 1023), None, [0, 128, 255]),
    "PGM, range given": (pgm([0, 256, 512], 1023), (0, 512), [0, 128, 255]),
    "PGM of 16 bits": (pgm(SIXTEEN_BITS, 65535), None, [0, 1, 128, 255]),
    "PGM of 16 bits, range given": (pgm(TWELVE_BITS, 65535), (0, 4095), [0, 0, 128, 255]),
    "transparent": (
        png(np.array([[0, 300, 65535]]), chunk(b"tRNS", b"\x01\x2c")),
        None,
        [0, 255, 255],
    ),
    "in memory": (Image.fromarray(np.array([SIXTEEN_BITS], np.int32)), None, [0, 1, 128, 255]),
}


@pytest.mark.parametrize(("source", "value_range", "levels"), DEEP.values(), ids=DEEP)
def test_decode_scales_values_of_more_than_8_bits(source, value_range, levels):
    assert decode(source, 1, value_range).tolist() == [[levels]]
    assert decode(source, 3, value_range).tolist() == [[levels]] * 3


def test_decode_scales_colours_of_16_bits_and_not_their_alpha():
    rgb = np.array([[[0, 512, 1023], [65535, 0, 7]]])
    assert_pixels(
        decode(png(rgb, colour_type=2), 3, (0, 1023)), np.array([[[0, 128, 255], [255, 0, 2]]])
    )
    rgba = np.array([[[0, 512, 1023, 65535], [5, 6, 7, 0]]])
    assert_pixels(
        decode(png(rgba, colour_type=6), 3, (0, 1023), (1, 2, 3)),
        np.array([[[0, 128, 255], [1, 2, 3]]]),
    )
    for order in "<>":
        data = rgb.astype(f"{order}u2").tobytes()
        file = tiff_by_hand(order, 2, (16, 16, 16), data)
        assert decode(file, 3, (0, 1023))[:, 0].tolist() == [[0, 255], [128, 0], [255, 2]]
        assert decode(file, 3)[:, 0].tolist() == [[0, 255], [2, 0], [4, 0]]
    turned = png(rgb, chunk(b"eXIf", exif_of(3)), colour_type=2)
    assert decode(turned, 3)[0].tolist() == [[255, 0]]


def test_decode_scales_grey_of_16_bits_and_not_its_alpha():
    values = np.array([[[0, 65535], [512, 65535], [1023, 65535], [7, 0]]])
    file = png(values, colour_type=4)
    assert decode(file, 1, (0, 1023), (9, 9, 9))[0].tolist() == [[0, 128, 255, 9]]
    assert decode(file, 3)[2].tolist() == [[0, 2, 4, 255]]


def test_decode_refuses_channels_of_16_bits_that_lie_one_after_the_other():
    """Pillow takes the two bytes of a value for two pixels, in silence."""
    file = tiff_by_hand("<", 2, (16, 16, 16), bytes(12), planar=2)
    with pytest.raises(ConfigError, match="lie one after the other; save it interleaved"):
        decode(file, 3)
