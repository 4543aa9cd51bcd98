"""Decode an image from any source to uint8 pixels (C, H, W).

Grey images of 16 bits are scaled to 8, which Pillow's own conversion would clip; the EXIF orientation
is applied; transparency is dropped, the colours below it stay.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.errors import ConfigError, reason

# Pillow's readers raise all of these on damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(source: Any, in_chans: int) -> Tensor:
    """Return uint8 pixels (in_chans, H, W).

    Args:
        source: A path, the bytes of a file, a Pillow image, an array (H, W) or (H, W, C), or a tensor
            (H, W) or (C, H, W); arrays and tensors are uint8, or floats in [0, 1].
        in_chans: 1 for grey, 3 for colour; other numbers only for arrays and tensors that have them.

    Raises:
        ConfigError: A file cannot be read as an image.
        ValueError: An array's or tensor's shape, type or range is none of the above.
    """
    if isinstance(source, np.ndarray):
        # A copy, because torch warns of read-only memory.
        array = torch.from_numpy(source.copy())
        return _from_tensor(array.permute(2, 0, 1) if array.ndim == 3 else array, in_chans)
    if isinstance(source, Tensor):
        return _from_tensor(source.detach().cpu(), in_chans)
    if isinstance(source, Image.Image):
        return _from_pillow(source, in_chans)
    name = "bytes" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as image:
            return _from_pillow(image, in_chans)
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: no such file; give an image") from error
    except UNREADABLE as error:
        raise ConfigError(
            f"{name}: cannot be read as an image ({reason(error)}); remove it"
        ) from error


def squash(pixels: Tensor, image_size: int) -> Tensor:
    """Resize images (..., H, W) to a square whatever their aspect; those of that size stay as they are."""
    if pixels.shape[-2:] == (image_size, image_size):
        return pixels
    return TF.resize(pixels, [image_size, image_size], antialias=True)


def _from_pillow(image: Image.Image, in_chans: int) -> Tensor:
    if in_chans not in (1, 3):
        raise ValueError(f"the network takes {in_chans} channels; give arrays or tensors with them")
    if image.mode == "F":
        raise ValueError("its pixels are floats of unknown range; wanted 8 or 16 bits")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    pixels = np.array(image.convert("L" if in_chans == 1 else "RGB"))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _from_tensor(image: Tensor, in_chans: int) -> Tensor:
    given = f"image of shape {tuple(image.shape)} and type {image.dtype}"
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or not image.numel():
        raise ValueError(f"{given}: wanted one image, (H, W), array (H, W, C) or tensor (C, H, W)")
    if image.is_floating_point():
        if not (image.min() >= 0 and image.max() <= 1):  # NaN fails too
            raise ValueError(f"{given}: floats must lie in [0, 1]; give raw pixels, not normalised")
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise ValueError(f"{given}: wanted uint8, or floats in [0, 1]")
    if image.shape[0] == in_chans:
        return image
    if image.shape[0] == 4 and in_chans in (1, 3):
        image = image[:3]
    if image.shape[0] == 1 and in_chans == 3:
        return TF.grayscale_to_rgb(image)
    if image.shape[0] == 3 and in_chans in (1, 3):
        return TF.rgb_to_grayscale(image) if in_chans == 1 else image
    raise ValueError(f"{given}: has {image.shape[0]} channels, the network takes {in_chans}")
