"""Decode the pixels of JPEG files with simplejpeg, in about half of Pillow's time (extra: jpeg).

Pillow reads the header, and decodes what is left to it here; which of the two it is does not show in the
pixels, since both are libjpeg-turbo with the same settings.
"""

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ImportError:  # the extra is not installed
    simplejpeg = None

_FORMATS = ("JPEG", "MPO")  # the second is a JPEG with more behind it, as cameras write
# Mode of the file, wanted channels -> colours to decode to. Grey of a colour file is left to Pillow, whose
# weights differ by rounding; so is CMYK.
_COLOURS = {("RGB", 3): "RGB", ("L", 3): "RGB", ("L", 1): "GRAY"}


def is_jpeg(image: Image.Image) -> bool:
    """Return whether an image that Pillow has opened is a JPEG, which can be decoded at a smaller scale."""
    return image.format in _FORMATS


def decode_jpeg(image: Image.Image, encoded: bytes, in_chans: int) -> np.ndarray | None:
    """Decode a JPEG, at the scale that its draft has.

    Args:
        image: As Pillow has opened it, without its pixels.
        encoded: The file.
        in_chans: 1 for grey, 3 for colour.

    Returns:
        uint8, (H, W, in_chans), not turned as its orientation says; None where Pillow has to decode it, or
        to say what is damaged.
    """
    colours = _COLOURS.get((image.mode, in_chans))
    if simplejpeg is None or colours is None or not is_jpeg(image):
        return None
    try:
        pixels = simplejpeg.decode_jpeg(
            encoded, colours, min_height=image.height, min_width=image.width
        )
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None
