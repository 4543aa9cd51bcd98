"""Find the image in a request and decode it, or refuse it; no more is read or decoded than the limits say."""

import asyncio
import base64
import binascii
import io
import warnings
from typing import Any

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from torch import Tensor

from mambavision_lab.data.decode import why_unreadable
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.inference import MambaVisionInference

# Each image's size is compared with our own limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Files of so many bytes and pixels are decoded at once, which takes less time than handing them to a thread.
_SMALL_BYTES, _SMALL_PIXELS = 2**14, 2**14


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a request's body, but no more than max_bytes."""
    too_large = HTTPException(413, f"the request is larger than {max_bytes:,} bytes")
    stated = request.headers.get("content-length", "0")
    if stated.isdigit() and int(stated) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_large
    except ClientDisconnect:
        raise HTTPException(400, "the request ended early") from None
    return bytes(body)


async def image_in(request: Request, body: bytes) -> bytes:
    """Find the image in a body: JSON with base64, a form with a file, or the file itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        wanted = 'wanted JSON such as {"image": "BASE64 OF THE FILE"}'
        try:
            given: Any = await _again(request, body).json()
            return base64.b64decode(given["image"], validate=True)
        except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
            raise HTTPException(400, wanted) from None
    if kind == "multipart/form-data":
        async with _again(request, body).form(max_files=1, max_fields=4) as form:
            file: Any = form.get("image")
            if not hasattr(file, "read"):
                raise HTTPException(400, "wanted a form with a file named image")
            return bytes(await file.read())
    if kind.startswith("image/") or kind == "application/octet-stream":
        return body
    raise HTTPException(
        415, "wanted application/json, multipart/form-data, or an image as image/..."
    )


def _again(request: Request, body: bytes) -> Request:
    """Return the request with its body unread."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


async def prepare(inference: MambaVisionInference, content: bytes, max_pixels: int) -> Tensor:
    """Decode and prepare an image as predict.py does.

    Raises:
        HTTPException: It is no image, or has more pixels; it is not decoded then.
    """
    if len(content) <= _SMALL_BYTES and _check_size(content, max_pixels) <= _SMALL_PIXELS:
        return _decode(inference, content)
    return await asyncio.to_thread(_check_and_decode, inference, content, max_pixels)


def _check_and_decode(inference: MambaVisionInference, content: bytes, max_pixels: int) -> Tensor:
    _check_size(content, max_pixels)
    return _decode(inference, content)


def _check_size(content: bytes, max_pixels: int) -> int:
    """Return how many pixels an image has, from its header."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            (width, height), kind = image.size, image.format
    except Image.DecompressionBombError:
        raise HTTPException(413, f"the image has more than {max_pixels:,} pixels") from None
    except Exception as error:  # each of Pillow's formats raises its own
        why = why_unreadable(error)
        raise HTTPException(400, f"this cannot be read as an image ({why})") from None
    if kind == "EPS":  # which Pillow would hand to Ghostscript, a program run by the file
        raise HTTPException(415, "EPS files are not taken; wanted an image of pixels")
    if width * height > max_pixels:
        raise HTTPException(
            413, f"the image has {width} x {height} pixels, more than {max_pixels:,}"
        )
    return width * height


def _decode(inference: MambaVisionInference, content: bytes) -> Tensor:
    try:
        return inference.prepare(content)
    except ConfigError as error:
        raise HTTPException(400, reason(error)) from None
