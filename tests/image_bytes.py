"""Image files as bytes, down to what Pillow does not write."""

import io
import struct
import zlib

import numpy as np
import torch
from PIL import Image

TWELVE_BITS = [0, 1, 2048, 4095]
SIXTEEN_BITS = [0, 257, 32896, 65535]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise_png(seed: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG of noise, of that width and height."""
    torch.manual_seed(seed)
    pixels = torch.randint(256, (size[1], size[0], 3), dtype=torch.uint8)
    return encoded(Image.fromarray(pixels.numpy()))


def npy(array: np.ndarray) -> bytes:
    """What `numpy.save` writes."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def assert_pixels(actual: torch.Tensor, expected_hwc: np.ndarray) -> None:
    assert actual.dtype == torch.uint8
    assert actual.permute(1, 2, 0).tolist() == expected_hwc.tolist()


def exif_of(orientation: int, *others: bytes) -> bytes:
    entries = [struct.pack("<HHII", 0x0112, 3, 1, orientation), *others]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def png(values: np.ndarray, *chunks: bytes, colour_type: int = 0) -> bytes:
    """A PNG of 16 bits, with further chunks before the pixels."""
    height, width = values.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", checksum)


def tiff(values: list, dtype: type, **tags: dict) -> bytes:
    return encoded(Image.fromarray(np.array([values], dtype)), "TIFF", **tags)


def pgm(values: list, maxval: int) -> bytes:
    return b"P5 %d 1 %d\n" % (len(values), maxval) + np.array(values, ">u2").tobytes()


def tiff_by_hand(order: str, width: int, bits: tuple, data: bytes, planar: int = 1) -> bytes:
    """A TIFF one pixel high of as many samples as there are bits, which Pillow reads and cannot write."""
    tags = [(256, 4, width), (257, 4, 1), (259, 3, 1), (262, 3, 2 if len(bits) > 1 else 1)]
    tags += [(273, 4, 200), (277, 3, len(bits)), (278, 4, 1), (279, 4, len(data)), (284, 3, planar)]
    entries = {
        tag: (kind, 1, struct.pack(order + {3: "Hxx", 4: "I"}[kind], value))
        for tag, kind, value in tags
    }
    packed = struct.pack(order + "H" * len(bits), *bits)
    entries[258] = (
        3,
        len(bits),
        packed.ljust(4, b"\0") if len(bits) < 3 else struct.pack(order + "I", 180),
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        head += struct.pack(order + "HHI", tag, kind, count) + value
    return head.ljust(180, b"\0") + packed.ljust(20, b"\0") + data
