"""Which values of an image of more than 8 bits are black and white.

Files hold 10 or 12 bits in 16, counts of a sensor, temperatures. Some state their range: TIFF by its tags,
PNG by sBIT, PGM by its largest value. Otherwise it is given, or measured over the training images.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from mambavision_lab.data.png import significant_bits

ValueRange = tuple[float, float]

FULL = (0.0, 65535.0)  # 16 bits
# Tags of TIFF.
_BITS_PER_SAMPLE = 258
_PLANAR_CONFIGURATION = 284
_MIN_TAGS, _MAX_TAGS = (340, 280), (341, 281)  # SMinSampleValue before MinSampleValue
# Colours of 16 bits as they lie in a file, B big-endian, L little-endian, N native -> the other order.
_NOT_NATIVE = "B" if sys.byteorder == "little" else "L"
_OTHER_ORDER = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", _NOT_NATIVE))
}
_GREY_ALPHA = "LA;16B"  # Pillow knows one order, and makes RGBA of it


def is_deep(image: Image.Image) -> bool:
    """Return whether the values of an image that is not loaded yet need a range: more than 8 bits."""
    return image.mode.startswith(("I", "F")) or _is_deep_colour(image) or _has_deep_planes(image)


def read_values(image: Image.Image) -> tuple[np.ndarray, ValueRange | None]:
    """Load a deep image's values, (H, W) or (H, W, C), and the range that the file itself states.

    Raises:
        ValueError: Pillow would misread it.
        Exception: Of any kind, from Pillow; the file is damaged.
    """
    if _has_deep_planes(image):
        raise ValueError("its channels of 16 bits lie one after the other; save it interleaved")
    stated, maxval = _tagged_range(image), _pgm_maxval(image)
    num_bits = _png_significant_bits(image)
    values = _read_16_bits(image) if _is_deep_colour(image) else np.asarray(image, np.float64)
    if maxval:  # Pillow has scaled them to 16 bits
        return (values * (maxval / FULL[1])).round(), (0.0, float(maxval))
    if num_bits and _is_right_aligned(_colours(values), num_bits):
        return values, (0.0, 2.0**num_bits - 1)
    return values, stated


def to_bytes(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Scale values to uint8 from 0 at the range's low end, as is what lies below or is NaN, to 255."""
    low, high = value_range
    scaled = (np.clip(values, low, high) - low) * 255 / (high - low)
    return np.nan_to_num(scaled).round().astype(np.uint8)


def union(ranges: Iterable[ValueRange]) -> ValueRange | None:
    """Return the smallest range that holds all; None for no range."""
    found = list(ranges)
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def extent(values: np.ndarray) -> ValueRange | None:
    """Return the smallest and the largest finite value, alpha aside; None where there is none."""
    finite = _colours(values)[np.isfinite(_colours(values))]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _colours(values: np.ndarray) -> np.ndarray:
    return values[..., :3] if values.ndim == 3 else values


def _raw_mode(image: Image.Image) -> str:
    """Return how the pixels of an image that is not loaded yet lie in its file, in Pillow's words."""
    tile = getattr(image, "tile", None)
    arguments = tile[0].args if tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _is_deep_colour(image: Image.Image) -> bool:
    return _raw_mode(image) in (*_OTHER_ORDER, _GREY_ALPHA)


def _has_deep_planes(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", None) or {}
    is_planar = tags.get(_PLANAR_CONFIGURATION) == 2 and len(image.getbands()) > 1
    return is_planar and int(_first(tags, (_BITS_PER_SAMPLE,)) or 8) > 8


def _read_16_bits(image: Any) -> np.ndarray:
    """Return colours of 16 bits: Pillow reads their upper bytes, and in the other byte order the lower."""
    raw = _raw_mode(image)
    if raw == _GREY_ALPHA:  # two numbers of two bytes, as many as a pixel of RGBA has
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        high, low = (np.asarray(image, np.float64)[..., k::2] for k in (0, 1))
        grey, alpha = np.moveaxis(256 * high + low, -1, 0)
        return np.dstack([grey, grey, grey, alpha])
    other = _OTHER_ORDER[raw]
    with _kept_place(image.fp):
        lower: Any = Image.open(image.fp)
        lower.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in lower.tile
        ]
        lower_bytes = np.asarray(lower, np.float64)
    return np.asarray(image, np.float64) * 256 + lower_bytes


@contextmanager
def _kept_place(file: Any) -> Iterator[None]:
    """Read a file that Pillow has open, and leave it where it was."""
    place = file.tell()
    yield
    file.seek(place)


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


def _is_right_aligned(values: np.ndarray, bits: int) -> bool:
    """Tell 12-bit values as they are from those scaled up to 16 bits, as PNG's standard wants them."""
    unused = 2 ** (16 - bits) - 1
    return values.max() < 2**bits and bool((values.astype(np.int64) & unused).any())
