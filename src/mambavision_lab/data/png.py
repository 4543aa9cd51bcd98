"""Read the chunks of a PNG: how many bits are significant, and the pixels without damaged metadata."""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_USED = (b"tRNS", b"sBIT", b"eXIf")  # of the chunks that need not be there


def significant_bits(file: BinaryIO) -> int | None:
    """Return how many of 16 bits sBIT says are significant; None for all."""
    file.seek(0)
    for kind, data in _chunks(file.read(4096)):  # it stands near the beginning, before the pixels
        if kind == b"sBIT" and len(data) > 12 and 0 < data[8] < 16:
            return data[8]
    return None


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
