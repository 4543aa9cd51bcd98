"""Find the images of a request and decode them, or refuse it; no more is read or decoded than limits say.

A file holds an image, or is a .npy file with the pixels of one or of several.
"""

import asyncio
import base64
import binascii
import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from torch import Tensor

from mambavision_lab.data.decode import FORMATS, why_unreadable
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.server.arrays import is_array, read_array

# Each image's size is compared with our own limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Images of so many bytes and pixels are decoded at once, which takes less time than handing them to a thread.
_SMALL_BYTES, _SMALL_PIXELS = 2**14, 2**14
_MAX_FILES = 1000  # of a form, which are counted afterwards
_FROM_URL_ALPHABET = str.maketrans("-_", "+/")
_MOST_DROPPED = 2**28  # bytes of a body that is too large


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a request's body, but keep no more than max_bytes.

    The rest is read and dropped, up to _MOST_DROPPED: a client that is still sending when its connection is
    closed never sees the answer.
    """
    stated = request.headers.get("content-length", "0")
    is_too_large = stated.isdigit() and int(stated) > max_bytes
    body, dropped = bytearray(), 0
    try:
        async for chunk in request.stream():
            is_too_large = is_too_large or len(body) + len(chunk) > max_bytes
            if not is_too_large:
                body += chunk
                continue
            dropped += len(chunk)
            if dropped > _MOST_DROPPED:
                break
    except ClientDisconnect:
        if not is_too_large:
            raise HTTPException(400, "the request ended early") from None
    if is_too_large:
        raise HTTPException(413, f"the request is larger than {max_bytes:,} bytes")
    return bytes(body)


async def files_in(request: Request, body: bytes, max_files: int) -> tuple[list[bytes], bool]:
    """Find the files in a body: JSON with base64, a form, or one file itself.

    Returns:
        The files, and whether they were given as a list, "images", and not as one "image".

    Raises:
        HTTPException: It has none, more than max_files, or is of another kind.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        files, is_list = await _files_in_json(_again(request, body), max_files)
    elif kind == "multipart/form-data":
        _require_end_of_form(request, body)
        files, is_list = await _files_in_form(_again(request, body))
    elif kind.startswith("image/") or kind == "application/octet-stream":
        files, is_list = [body], False
    else:
        raise HTTPException(
            415,
            "wanted application/json, multipart/form-data, an image as image/..., or an image or a .npy file "
            "as application/octet-stream",
        )
    if len(files) > max_files:
        raise _too_many(max_files)
    return files, is_list


def _too_many(max_images: int) -> HTTPException:
    return HTTPException(413, f"more than {max_images} images in a request; send several requests")


async def _files_in_json(request: Request, max_files: int) -> tuple[list[bytes], bool]:
    try:
        given: Any = await request.json()
        is_list = "images" in given
        encoded = given["images"] if is_list else [given["image"]]
        if not isinstance(encoded, list) or not encoded:
            raise ValueError
        encoded = encoded[: max_files + 1]  # of too many none more is decoded
        return [_decode_base64(image) for image in encoded], is_list
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        wanted = 'wanted JSON: {"image": "BASE64 OF THE FILE"}, or {"images": [...]} of these'
        raise HTTPException(400, wanted) from None


def _decode_base64(encoded: Any) -> bytes:
    """Decode base64 of either alphabet (RFC 4648), with line breaks, without padding, or as a data URL."""
    if not isinstance(encoded, str):
        raise TypeError
    if encoded[:5].lower() == "data:":
        encoded = encoded.partition(",")[2]
    encoded = "".join(encoded.split()).translate(_FROM_URL_ALPHABET)
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)


def _require_end_of_form(request: Request, body: bytes) -> None:
    """Refuse a form that was cut off, whose first files alone would be answered."""
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary")
    if boundary is not None and b"--" + boundary + b"--" not in body:
        raise HTTPException(400, "the form has no end; it may have been cut off")


async def _files_in_form(request: Request) -> tuple[list[bytes], bool]:
    async with request.form(max_files=_MAX_FILES, max_fields=4) as form:
        is_list = "images" in form
        files: list[Any] = form.getlist("images" if is_list else "image")
        if not files or not all(hasattr(file, "read") for file in files):
            raise HTTPException(
                400, "wanted a form with a file named image, or several named images"
            )
        if not is_list and len(files) > 1:
            raise HTTPException(400, f"{len(files)} files named image; name several files images")
        return [bytes(await file.read()) for file in files], is_list


def _again(request: Request, body: bytes) -> Request:
    """Return the request with its body unread."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


async def prepare_all(
    inference: MambaVisionInference, files: Sequence[bytes], max_images: int, max_pixels: int
) -> tuple[Tensor, bool]:
    """Decode and prepare the images of one request as `MambaVisionInference.predict` does.

    Returns:
        Pixels (N, C, H, W), uint8, and whether one of the files was an array of several images.

    Raises:
        HTTPException: One is no image, or has more pixels, and is not decoded then; or other channels than
            the network takes; or there are more than max_images.
    """
    prepared: list[Tensor] = []
    room, has_stack = max_images, False
    for number, file in enumerate(files, 1):
        try:
            images = _read(inference, file)
            is_stack = isinstance(images, np.ndarray) and images.ndim == 4
            has_stack, room = has_stack or is_stack, room - (len(images) if is_stack else 1)
            if room < 0:
                raise _too_many(max_images)
            pixels = await _prepare(inference, images, max_pixels)
        except HTTPException as error:
            if len(files) == 1:
                raise
            where = f"file {number} of {len(files)}: {error.detail}"
            raise HTTPException(error.status_code, where) from None
        prepared.append(pixels if is_stack else pixels[None])
    return torch.cat(prepared), has_stack


def _read(inference: MambaVisionInference, file: bytes) -> bytes | np.ndarray:
    """Read the array of a .npy file; an image's file stays as it is."""
    if is_array(file):
        try:
            return read_array(file)
        except ValueError as error:
            raise HTTPException(400, reason(error)) from None
    if inference.in_chans not in (1, 3):
        raise HTTPException(
            415,
            f"the network takes {inference.in_chans} channels, which no image file has; send a .npy file",
        )
    return file


async def _prepare(
    inference: MambaVisionInference, images: bytes | np.ndarray, max_pixels: int
) -> Tensor:
    """Return pixels (C, H, W) of an image's file or array, (N, C, H, W) of an array of several."""
    if isinstance(images, bytes):
        return await _prepare_file(inference, images, max_pixels)
    height, width = images.shape[:2] if images.ndim < 4 else images.shape[1:3]
    _check_size(width, height, max_pixels)
    prepare = inference.prepare if images.ndim < 4 else inference.prepare_stack
    try:
        if images.size <= _SMALL_PIXELS:
            return prepare(images)
        return await asyncio.to_thread(prepare, images)
    except ValueError as error:
        raise HTTPException(400, reason(error)) from None


async def _prepare_file(inference: MambaVisionInference, content: bytes, max_pixels: int) -> Tensor:
    if len(content) <= _SMALL_BYTES:
        with _open(content, max_pixels) as image:
            if image.width * image.height <= _SMALL_PIXELS:
                with contextlib.suppress(ConfigError):  # perhaps from damaged metadata
                    return inference.prepare(image)
                return _decode(inference, content)
    return await asyncio.to_thread(_open_and_decode, inference, content, max_pixels)


def _open_and_decode(inference: MambaVisionInference, content: bytes, max_pixels: int) -> Tensor:
    with _open(content, max_pixels):
        return _decode(inference, content)


def _open(content: bytes, max_pixels: int) -> Image.Image:
    """Open an image, without its pixels, and refuse it for its size."""
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise HTTPException(413, f"the image has more than {max_pixels:,} pixels") from None
    except Exception as error:  # each of Pillow's formats raises its own
        why = why_unreadable(error)
        raise HTTPException(400, f"this cannot be read as an image ({why})") from None
    _check_size(*image.size, max_pixels)
    return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise HTTPException(
            413, f"the image has {width} x {height} pixels, more than {max_pixels:,}"
        )


def _decode(inference: MambaVisionInference, content: bytes) -> Tensor:
    try:
        return inference.prepare(content)
    except ConfigError as error:
        cause = error.__cause__
        why = why_unreadable(cause) if isinstance(cause, Exception) else reason(error)
        raise HTTPException(400, f"this cannot be read as an image ({why})") from None
