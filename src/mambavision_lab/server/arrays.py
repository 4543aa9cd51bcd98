"""Read images from the bytes of a .npy file, without a copy and without Python objects."""

import io
import math

import numpy as np

_MAGIC = b"\x93NUMPY"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_FLOAT_BYTES = (2, 4, 8)


def is_array(content: bytes) -> bool:
    """Say whether these are the bytes of a .npy file."""
    return content.startswith(_MAGIC)


def read_arrays(content: bytes) -> tuple[np.ndarray, bool]:
    """Read images, uint8 or floats, from what `numpy.save` wrote.

    Nothing is allocated for what a header promises: the array lies in the bytes that came.

    Returns:
        The images (N, H, W, C), and whether the file has several, of that shape, and not one, (H, W) or
        (H, W, C).

    Raises:
        ValueError: The file is damaged, or its array is none of the above; the message says why.
    """
    file = io.BytesIO(content)
    try:
        shape, is_fortran, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
        flat = np.frombuffer(content, dtype, math.prod(shape), file.tell())
        array = flat.reshape(shape, order="F" if is_fortran else "C")
    except Exception:  # of all kinds: numpy reads the header as Python
        raise ValueError("the .npy file is damaged, or holds Python objects") from None
    given = f"the array has the shape {shape} and the type {dtype}"
    is_float = dtype.kind == "f" and dtype.itemsize in _FLOAT_BYTES
    if dtype != np.uint8 and not is_float:
        raise ValueError(f"{given}: wanted uint8, or floats in [0, 1]")
    if array.ndim not in (2, 3, 4) or not array.size:
        raise ValueError(f"{given}: wanted (H, W), (H, W, C) or (N, H, W, C)")
    array = array.astype(dtype.newbyteorder("="), copy=False)
    if array.ndim == 4:
        return array, True
    return (array if array.ndim == 3 else array[..., None])[None], False
