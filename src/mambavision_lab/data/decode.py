"""Decode an image from any source to uint8 pixels (C, H, W).

Of the metadata only the orientation is used, and the range of the values where there are more than 8 bits
(see `value_range.py`). Transparent pixels are composited on a background. Colour profiles are ignored. Of
several frames the first is taken.
"""

import io
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.jpeg import decode_jpeg, is_jpeg
from mambavision_lab.data.png import without_metadata
from mambavision_lab.data.value_range import FULL, ValueRange, is_deep, read_values, to_bytes
from mambavision_lab.errors import ConfigError, reason

# Pillow's names of the kinds of file that are listed as images. Others are not opened: a few decode, or start
# a program, before their size can be compared with a limit.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000"),
    *("DIB", "QOI", "PCX", "TGA"),
)
Colour = tuple[int, int, int]
Shrink = Callable[[int, int], int]

WHITE: Colour = (255, 255, 255)
# Value of the orientation -> the pixels (C, H, W) as they are shown.
_AS_SHOWN: dict[Any, Callable[[Tensor], Tensor]] = {
    2: lambda pixels: pixels.flip(2),
    3: lambda pixels: pixels.flip(1, 2),
    4: lambda pixels: pixels.flip(1),
    5: lambda pixels: pixels.mT,
    6: lambda pixels: pixels.rot90(-1, (1, 2)),
    7: lambda pixels: pixels.mT.flip(1, 2),
    8: lambda pixels: pixels.rot90(1, (1, 2)),
}
_LYING = (5, 6, 7, 8)  # orientations that swap height and width
# Number of axes -> what is wanted of an array or a tensor.
_WANTED = {
    3: "one image, (H, W), array (H, W, C) or tensor (C, H, W)",
    4: "images of one size, an array (N, H, W, C)",
}


def to_an_eighth(height: int, width: int) -> int:
    """Decode a JPEG at an eighth of its height and width: faster, and finds what is damaged."""
    return 8


def decode(
    source: Any,
    in_chans: int,
    value_range: ValueRange | None = None,
    background: Colour = WHITE,
    *,
    shrink: Shrink | None = None,
) -> Tensor:
    """Return uint8 pixels (in_chans, H, W).

    Args:
        source: A path, an open binary file, the bytes of a file, a Pillow image, an array (H, W) or
            (H, W, C), or a tensor (H, W) or (C, H, W); arrays and tensors are uint8, or floats in [0, 1].
        in_chans: 1 for grey, 3 for colour; other numbers only for arrays and tensors that have them.
        value_range: Black and white of images of more than 8 bits; None is what the file states, else
            all 16 bits.
        background: What transparent pixels are composited on, red, green and blue.
        shrink: By what a JPEG's height and width, as it is shown, may be divided while it is decoded, which
            is faster; rounded down to 1, 2, 4 or 8. Other files stay as they are.

    Raises:
        ConfigError: A file cannot be read as an image, or the network takes other channels than files have.
        ValueError: An array's or tensor's shape, type or range is none of the above.
    """
    if isinstance(source, np.ndarray):
        # A copy, because torch warns of read-only memory.
        array = torch.from_numpy(source.copy())
        array = array.permute(2, 0, 1) if array.ndim == 3 else array
        return _from_tensor(array, source.shape, in_chans, background)
    if isinstance(source, Tensor):
        return _from_tensor(source.detach().cpu(), source.shape, in_chans, background)
    if in_chans not in (1, 3):
        raise ConfigError(
            f"{_name(source)}: the network takes {in_chans} channels, which no image file has; give an array "
            "or a tensor"
        )
    settings = (in_chans, value_range, background)
    try:
        if isinstance(source, Image.Image):
            return _from_pillow(source, *settings)
        return _from_file(_read(source), shrink, *settings)
    except ConfigError:  # of what the image is read from
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"{_name(source)}: no such file; give an image") from error
    except Image.DecompressionBombError as error:
        raise ConfigError(
            f"{_name(source)}: has too many pixels ({reason(error)}); make it smaller or a JPEG, or "
            "raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except Exception as error:  # Pillow's readers raise all kinds on damaged files
        raise ConfigError(
            f"{_name(source)}: cannot be read as an image ({why_unreadable(error)}); remove it"
        ) from error


def decode_stack(images: np.ndarray, in_chans: int, background: Colour = WHITE) -> Tensor:
    """Return uint8 pixels (N, in_chans, H, W) of several images of one size, an array (N, H, W, C).

    Types, channels and errors are those of `decode`.
    """
    stack = torch.from_numpy(images.copy())  # for the reason that decode has
    stack = stack.movedim(-1, 1) if stack.ndim == 4 else stack
    return _from_tensor(stack, images.shape, in_chans, background, ndim=4)


def why_unreadable(error: Exception) -> str:
    """Say why Pillow could not read an image."""
    if isinstance(error, UnidentifiedImageError):  # names an object in memory
        return "its format is unknown or its header is damaged"
    return reason(error)


def open_image(source: Path | bytes) -> Image.Image:
    """Open an image file, without its pixels.

    A JPEG above Pillow's limit of pixels is read at an eighth of its width and height, which its decoder
    does while it reads; 341 pixels a side and more are left.

    Args:
        source: A path, or the bytes of a file.

    Raises:
        Exception: Of any kind, from Pillow; it cannot be read.
    """

    def file() -> Any:
        return io.BytesIO(source) if isinstance(source, bytes) else source

    try:
        return Image.open(file(), formats=FORMATS)
    except Image.DecompressionBombError as error:
        try:
            return _draft(JpegImageFile(file()), 8)
        except SyntaxError:
            raise error from None  # no JPEG


def _draft(image: Image.Image, scale: int) -> Image.Image:
    """Let a JPEG be decoded at a smaller scale; others stay as they are, and so do drafts."""
    image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    return image


def squash(pixels: Tensor, image_size: int) -> Tensor:
    """Resize images (..., H, W) to a square whatever their aspect; those of that size stay as they are."""
    if pixels.shape[-2:] == (image_size, image_size):
        return pixels
    return TF.resize(pixels, [image_size, image_size], antialias=True)


def _from_file(encoded: bytes, shrink: Shrink | None, *settings: Any) -> Tensor:
    try:
        with open_image(encoded) as image:
            if is_jpeg(image):
                return _from_jpeg(image, encoded, shrink, *settings)
            return _from_pillow(image, *settings)
    except Image.DecompressionBombError:
        raise
    except Exception:  # of all kinds; perhaps from a PNG's metadata
        if (bare := without_metadata(encoded)) is None:
            raise
        with Image.open(bare, formats=FORMATS) as image:
            return _from_pillow(image, *settings)


def _from_jpeg(
    image: Image.Image, encoded: bytes, shrink: Shrink | None, in_chans: int, *settings: Any
) -> Tensor:
    orientation = _orientation(image)
    if shrink is not None:
        width, height = image.size[::-1] if orientation in _LYING else image.size
        _draft(image, shrink(height, width))
    pixels = decode_jpeg(image, encoded, in_chans)
    if pixels is None:
        return _from_pillow(image, in_chans, *settings)
    return _to_tensor(pixels, orientation)


def read_source(source: Any) -> Path | bytes:
    """Read an open file, which stays open, from its start where it has one; paths are read later."""
    if isinstance(source, str | PathLike):
        return Path(source)
    if hasattr(source, "read"):
        if source.seekable():
            source.seek(0)
        source = source.read()
    return bytes(source)


def _read(source: Any) -> bytes:
    found = read_source(source)
    return found if isinstance(found, bytes) else found.read_bytes()


def _from_pillow(
    image: Image.Image, in_chans: int, value_range: ValueRange | None, background: Colour
) -> Tensor:
    flat = _to_8_bits(image, value_range) if is_deep(image) else image
    flat.load()
    orientation = _orientation(image)
    if flat.has_transparency_data:
        flat = (flat.convert("LA") if flat.mode == "La" else flat).convert("RGBA")
        canvas = Image.new("RGB", flat.size, background)
        canvas.paste(flat, mask=flat)
        flat = canvas
    if flat.mode == "LAB":  # which Pillow converts to colours alone
        flat = flat.convert("RGB")
    mode = "L" if in_chans == 1 else "RGB"
    return _to_tensor(np.array(flat if flat.mode == mode else flat.convert(mode)), orientation)


def _to_tensor(pixels: np.ndarray, orientation: Any) -> Tensor:
    """Make an image (C, H, W), turned as it is shown, of pixels (H, W) or (H, W, C)."""
    stored = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
    as_shown = _AS_SHOWN.get(orientation)
    return stored if as_shown is None else as_shown(stored)


def _orientation(image: Image.Image) -> Any:
    """Read an image's orientation, a PNG's after its pixels; 1, as it is, where the metadata are damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of all kinds; the pixels are readable
        return 1


def _to_8_bits(image: Image.Image, value_range: ValueRange | None) -> Image.Image:
    values, stated = read_values(image)
    black_white = value_range or stated or (None if image.mode == "F" else FULL)
    if black_white is None:
        raise ValueError(
            "its pixels are floats of unknown range; save them as integers, or train with "
            "data.value_range=[LOW,HIGH]"
        )
    if values.ndim == 3 and values.shape[2] == 4:  # the range is not that of alpha
        return Image.fromarray(
            np.dstack([to_bytes(values[..., :3], black_white), to_bytes(values[..., 3:], FULL)])
        )
    flat = Image.fromarray(to_bytes(values, black_white))
    clear = image.info.get("transparency")
    if values.ndim == 2 and isinstance(clear, int):
        flat.putalpha(Image.fromarray(((values != clear) * 255).astype(np.uint8)))
    return flat


def _name(source: Any) -> str:
    """Name a source in a message."""
    if isinstance(source, str | PathLike):
        return str(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return str(name) if name else type(source).__name__


def _from_tensor(
    image: Tensor, shape: Sequence[int], in_chans: int, background: Colour, ndim: int = 3
) -> Tensor:
    """Turn (C, H, W), with four axes (N, C, H, W), into pixels; messages name the shape that was given."""
    given = f"image{'s' * (ndim == 4)} of shape {tuple(shape)} and type {image.dtype}"
    image = image[None] if image.ndim == 2 else image
    if image.ndim != ndim or not image.numel():
        raise ValueError(f"{given}: wanted {_WANTED[ndim]}")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):  # NaN fails too
            raise ValueError(f"{given}: floats must lie in [0, 1]; give raw pixels, not normalised")
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise ValueError(f"{given}: wanted uint8, or floats in [0, 1]")
    channels = image.shape[-3]
    if channels == in_chans:
        return image
    if channels == 4 and in_chans in (1, 3):
        if ndim == 4:
            return torch.stack([_from_tensor(one, shape, in_chans, background) for one in image])
        rgba = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        return _from_pillow(rgba, in_chans, None, background)
    if channels == 1 and in_chans == 3:
        return TF.grayscale_to_rgb(image)
    if channels == 3 and in_chans == 1:
        return TF.rgb_to_grayscale(image)
    raise ValueError(f"{given}: has {channels} channels, the network takes {in_chans}")
