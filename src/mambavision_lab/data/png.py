"""Read what Pillow does not of PNG: how many bits are significant, and pixels beside damaged metadata."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch
from torchvision.io import decode_png

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_USED = (b"tRNS", b"sBIT", b"eXIf")  # of the chunks that need not be there


def significant_bits(file: BinaryIO) -> int | None:
    """Return how many of 16 bits sBIT says are significant; None for all."""
    file.seek(0)
    for kind, data in _chunks(file.read(4096)):  # it stands near the beginning, before the pixels
        if kind == b"sBIT" and len(data) > 12 and 0 < data[8] < 16:
            return data[8]
    return None


def read_16_bits(file: BinaryIO) -> np.ndarray:
    """Return a PNG's pixels of 16 bits, (H, W, C); Pillow reads the upper 8 where there are channels."""
    file.seek(0)
    encoded = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    return decode_png(encoded).permute(1, 2, 0).numpy()


def without_metadata(encoded: bytes) -> io.BytesIO | None:
    """Return a PNG without chunks that are not about its pixels; None if it has none, or is no PNG."""
    kept = [data for kind, data in _chunks(encoded) if kind[:1].isupper() or kind in _USED]
    bare = _SIGNATURE + b"".join(kept)
    return io.BytesIO(bare) if kept and len(bare) < len(encoded) else None


def _chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind of each chunk and all of its bytes: length, kind, data, checksum."""
    position = len(_SIGNATURE) if encoded.startswith(_SIGNATURE) else len(encoded)
    while position + 8 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        yield kind, encoded[position : position + length + 12]
        position += length + 12
