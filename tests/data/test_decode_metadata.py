"""Metadata do not keep pixels from being read."""

import struct
import zlib

import numpy as np
import pytest
from image_bytes import SIXTEEN_BITS, chunk, encoded, exif_of, png
from PIL import Image

from mambavision_lab.data.decode import decode

# Maker as a rational number that is not there, which Pillow reads and cannot write.
UNWRITABLE = exif_of(6, struct.pack("<HHII", 0x010F, 5, 1, 0xFFFF))
DAMAGED = [b"", b"II*\0" + b"\xff" * 40, b"MM\0*\0\0\0\x08\xff\xff", UNWRITABLE[:20]]


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File)")  # Pillow's
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {})]
)
def test_decode_reads_the_orientation_beside_damaged_metadata(kind, options):
    grey = Image.new("L", (3, 2), 128)
    for exif, shape in ((UNWRITABLE, (1, 3, 2)), *((exif, (1, 2, 3)) for exif in DAMAGED)):
        pixels = decode(encoded(grey, kind, exif=b"Exif\0\0" + exif, **options), 1)
        assert pixels.shape == shape
        assert pixels.unique().tolist() == [128]


@pytest.mark.parametrize(
    "damaged",
    [
        chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2 << 20))),
        chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(2 << 20))),
        chunk(b"tEXt", b"key\0text", checksum=0),
        chunk(b"pHYs", b""),
        chunk(b"acTL", b""),
    ],
    ids=["text too long", "profile too long", "checksum", "resolution", "animation"],
)
def test_decode_reads_pixels_beside_damaged_chunks_of_png(damaged):
    assert decode(png(np.array([SIXTEEN_BITS]), damaged), 1).tolist() == [[[0, 1, 128, 255]]]
    clear = chunk(b"tRNS", b"\0\0")
    assert decode(png(np.array([SIXTEEN_BITS]), damaged, clear), 1)[0, 0, 0] == 255
