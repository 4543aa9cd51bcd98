"""Which values of an image of more than 8 bits are black and white.

Files hold 10 or 12 bits in 16, counts of a sensor, temperatures. Some state their range: TIFF by its tags,
PNG by sBIT, PGM by its largest value. Otherwise it is given, or measured over the training images.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from mambavision_lab.data.png import read_16_bits, significant_bits

ValueRange = tuple[float, float]

FULL = (0.0, 65535.0)  # 16 bits
# Tags of TIFF.
_BITS_PER_SAMPLE = 258
_MIN_TAGS, _MAX_TAGS = (340, 280), (341, 281)  # SMinSampleValue before MinSampleValue
_DEEP_COLOUR = {"RGB;16B": "RGB", "RGBA;16B": "RGBA", "LA;16B": "LA"}  # Pillow's, in PNG


def is_deep(image: Image.Image) -> bool:
    """Return whether the values of an image that is not loaded yet need a range: more than 8 bits."""
    return image.mode.startswith(("I", "F")) or _deep_colour(image) is not None


def read_values(image: Image.Image) -> tuple[np.ndarray, ValueRange | None]:
    """Load a deep image's values, (H, W) or (H, W, C), and the range that the file itself states.

    Raises:
        Exception: Of any kind, from Pillow; the file is damaged.
    """
    stated, maxval = _tagged_range(image), _pgm_maxval(image)
    num_bits = _png_significant_bits(image)
    values = _read_png(image) if _deep_colour(image) else np.asarray(image, np.float64)
    if maxval:  # Pillow has scaled them to 16 bits
        return (values * (maxval / FULL[1])).round(), (0.0, float(maxval))
    if num_bits and _is_right_aligned(values, num_bits):
        return values, (0.0, 2.0**num_bits - 1)
    return values, stated


def to_bytes(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Scale values to uint8 from 0 at the range's low end, as is what lies below or is NaN, to 255."""
    low, high = value_range
    scaled = (np.clip(values, low, high) - low) * (255 / (high - low))
    return np.nan_to_num(scaled).round().astype(np.uint8)


def union(ranges: Iterable[ValueRange]) -> ValueRange | None:
    """Return the smallest range that holds all; None for no range."""
    found = list(ranges)
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def extent(values: np.ndarray) -> ValueRange | None:
    """Return the smallest and the largest finite value; None where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _deep_colour(image: Image.Image) -> str | None:
    """Return the mode of a PNG with 16 bits a channel, of which Pillow reads the upper 8."""
    tile = getattr(image, "tile", None)
    is_png = getattr(image, "format", None) == "PNG"
    return _DEEP_COLOUR.get(str(tile[0].args)) if is_png and tile else None


def _read_png(image: Any) -> np.ndarray:
    with _kept_place(image.fp):
        return read_16_bits(image.fp).astype(np.float64)


def _tagged_range(image: Image.Image) -> ValueRange | None:
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return None
    bits = int(_first(tags, (_BITS_PER_SAMPLE,)) or 16)
    low, high = _first(tags, _MIN_TAGS), _first(tags, _MAX_TAGS)
    if high is None and bits not in (16, 32):
        high = 2**bits - 1
    if high is None or not (low or 0) < high or high == 2**bits - 1 in (0xFFFF, 0xFFFFFFFF):
        return None  # nothing more than the size of its numbers
    return float(low or 0), float(high)


def _first(tags: Any, names: tuple[int, ...]) -> float | None:
    for name in names:
        if (value := tags.get(name)) is not None:
            return float(value[0] if isinstance(value, tuple) else value)
    return None


def _pgm_maxval(image: Image.Image) -> int | None:
    tile = getattr(image, "tile", None)
    arguments = tile[0].args if tile and image.format == "PPM" and image.mode == "I" else None
    return arguments[1] if isinstance(arguments, tuple) and len(arguments) == 2 else None


def _png_significant_bits(image: Image.Image) -> int | None:
    file: Any = getattr(image, "fp", None)
    if file is None or image.format != "PNG":
        return None
    with _kept_place(file):
        return significant_bits(file)


@contextmanager
def _kept_place(file: Any) -> Iterator[None]:
    """Read a file that Pillow has open, and leave it where it was."""
    place = file.tell()
    yield
    file.seek(place)


def _is_right_aligned(values: np.ndarray, bits: int) -> bool:
    """Tell 12-bit values as they are from those scaled up to 16 bits, as PNG's standard wants them."""
    unused = 2 ** (16 - bits) - 1
    return values.max() < 2**bits and bool((values.astype(np.int64) & unused).any())
