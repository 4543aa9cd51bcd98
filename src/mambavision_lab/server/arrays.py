"""Read images from the bytes of a .npy file, without a copy and without Python objects."""

import io
import math
import warnings

import numpy as np

# A header that numpy takes for one of Python 2, which it reads all the same.
warnings.filterwarnings("ignore", message="Reading `.npy`", module="numpy")
_MAGIC = b"\x93NUMPY"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MAX_HEADER = 512  # characters, four times those of an array; long ones take milliseconds to read
_FLOAT_BYTES = (2, 4, 8)


def is_array(content: bytes) -> bool:
    """Say whether these are the bytes of a .npy file."""
    return content.startswith(_MAGIC)


def read_array(content: bytes) -> np.ndarray:
    """Return what `numpy.save` wrote: an image (H, W) or (H, W, C), or several (N, H, W, C), uint8 or floats.

    Nothing is allocated for what a header promises: the array lies in the bytes that came.

    Raises:
        ValueError: The file is damaged, or its array is none of the above; the message says why.
    """
    file = io.BytesIO(content)
    try:
        read_header = _HEADERS[np.lib.format.read_magic(file)]
        shape, is_fortran, dtype = read_header(file, max_header_size=_MAX_HEADER)
    except Exception:  # of all kinds: numpy reads the header as Python
        raise ValueError(
            "the .npy file has no header as numpy.save writes it for an array of numbers"
        ) from None
    given = f"the array has the shape {shape} and the type {dtype}"
    is_float = dtype.kind == "f" and dtype.itemsize in _FLOAT_BYTES
    if dtype != np.uint8 and not is_float:
        raise ValueError(f"{given}: wanted uint8, or floats in [0, 1]")
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"{given}: wanted (H, W), (H, W, C) or (N, H, W, C)")
    if min(shape) < 1:
        raise ValueError(f"{given}: it has no pixels")
    promised, found = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if promised != found:
        raise ValueError(f"{given}: that is {promised:,} bytes, and the .npy file has {found:,}")
    flat = np.frombuffer(content, dtype, offset=file.tell())
    array = flat.reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
