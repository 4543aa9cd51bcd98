"""Transparent pixels show the background, whatever lies below them."""

import numpy as np
import pytest
import torch
from image_bytes import encoded
from PIL import Image

from mambavision_lab.data.decode import decode


def see_through(mode: str, level: int, alpha: int) -> Image.Image:
    """Two pixels: an opaque one, and one whose colour is `level`, with alpha."""
    pixels = np.array([[[50, 50, 50, 255], [level, level, level, alpha]]], np.uint8)
    image = Image.fromarray(pixels)
    return (image.convert("LA") if mode == "La" else image).convert(mode)


ALPHA = [
    *((mode, kind) for mode in ("RGBA", "LA") for kind in ("PNG", "TIFF")),
    *(("RGBA", "WEBP"), ("PA", None), ("La", None), ("RGBa", None)),
]


@pytest.mark.parametrize(("mode", "kind"), ALPHA)
def test_decode_composites_transparency_whatever_lies_below(mode, kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    for level in (0, 255):
        image = see_through(mode, level, alpha=0)
        source = image if kind is None else encoded(image, kind, **options)
        assert decode(source, 3).tolist() == [[[50, 255]]] * 3
        assert decode(source, 3, None, (9, 8, 7)).tolist() == [[[50, 9]], [[50, 8]], [[50, 7]]]
        assert decode(source, 1, None, (9, 9, 9)).tolist() == [[[50, 9]]]


def test_decode_composites_partly_transparent_pixels():
    expected = round((100 * 128 + 255 * 127) / 255)
    image = see_through("RGBA", 100, alpha=128)
    for source in (image, np.asarray(image), torch.from_numpy(np.array(image)).permute(2, 0, 1)):
        assert decode(source, 3).tolist() == [[[50, expected]]] * 3


@pytest.mark.parametrize(
    ("image", "clear"),
    [
        (Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), 0),
        (Image.fromarray(np.array([[5, 255]], np.uint8)), 5),
        (Image.fromarray(np.array([[5, 255]], np.uint8)).convert("P"), 5),
        (Image.fromarray(np.array([[5, 255]], np.uint8)).convert("RGB"), (5, 5, 5)),
    ],
    ids=["1", "L", "P", "RGB"],
)
def test_decode_composites_the_colour_that_a_file_calls_transparent(image, clear):
    data = encoded(image, transparency=clear)
    assert decode(data, 3, None, (1, 2, 3))[:, 0].tolist() == [[1, 255], [2, 255], [3, 255]]
