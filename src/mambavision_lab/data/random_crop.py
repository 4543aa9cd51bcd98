"""Crop a random part of an image and resize it; which part is known before the image is decoded.

Source: Szegedy et al. 2014, arXiv:1409.4842; aspects and tries as in torchvision's `RandomResizedCrop`,
which crops an image that is decoded.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

_LOG_ASPECTS = (math.log(3 / 4), math.log(4 / 3))
_NUM_TRIES = 10

Box = tuple[int, int, int, int]  # top, left, height, width


class RandomCrop:
    """Draw crops for images of any size.

    Args:
        image_size: Pixels per side of what is cropped and resized.
        scale: Smallest and largest share of the image's area.
        interpolation: "bilinear", "bicubic", or "random" for one of the two.
    """

    def __init__(
        self, image_size: int, scale: Sequence[float], interpolation: str = "bilinear"
    ) -> None:
        self.image_size, self.scale, self.interpolation = image_size, scale, interpolation

    def draw(self) -> "Crop":
        """Draw one from torch's random state."""
        tries = torch.rand(_NUM_TRIES, 4).tolist()
        mode = self.interpolation
        if mode == "random":
            mode = "bicubic" if torch.rand(()) < 0.5 else "bilinear"
        return Crop(self.image_size, self.scale, tries, mode)


class Crop:
    """One crop, as a function of the image's size.

    Args:
        image_size: As in `RandomCrop`.
        scale: As in `RandomCrop`.
        tries: Four numbers from 0 to 1 for each: area, aspect, and place from top and left; the first
            that fits into the image counts.
        interpolation: "bilinear" or "bicubic".
    """

    def __init__(
        self,
        image_size: int,
        scale: Sequence[float],
        tries: list[list[float]],
        interpolation: str = "bilinear",
    ) -> None:
        self.image_size, self.scale, self.tries = image_size, scale, tries
        self.interpolation = v2.InterpolationMode(interpolation)

    def box(self, height: int, width: int) -> Box:
        """Return the part of an image that is kept, the same at any scale but for whole pixels."""
        part_height, part_width, top, left = self._part(height, width)
        kept = max(1, round(part_height)), max(1, round(part_width))
        return round(top * (height - kept[0])), round(left * (width - kept[1])), *kept

    def _part(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return height and width, and the place; the middle of a strip into which no try fits."""
        for share, shape, top, left in self.tries:
            area = height * width * _between(self.scale, share)
            aspect = math.exp(_between(_LOG_ASPECTS, shape))  # width over height
            part_height, part_width = math.sqrt(area / aspect), math.sqrt(area * aspect)
            if part_height <= height and part_width <= width:
                return part_height, part_width, top, left
        narrowest, widest = map(math.exp, _LOG_ASPECTS)
        return min(height, width / narrowest), min(width, height * widest), 0.5, 0.5

    def shrink(self, height: int, width: int) -> int:
        """Return by what the image may be divided and the part still have image_size pixels a side."""
        return max(1, min(self.box(height, width)[2:]) // self.image_size)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Crop and resize pixels, uint8, (C, H, W)."""
        return self.of_frames(pixels[None])[0]

    def of_frames(self, frames: Tensor) -> Tensor:
        """Crop and resize frames, uint8, (N, C, H, W), all alike."""
        top, left, height, width = self.box(*frames.shape[-2:])
        part = frames[..., top : top + height, left : left + width]
        # As decoders give it, colour by colour: torch resizes this layout in half the time.
        part = part.contiguous(memory_format=torch.channels_last)
        size = [self.image_size, self.image_size]
        return TF.resize(part, size, self.interpolation, antialias=True)


def _between(limits: Sequence[float], share: float) -> float:
    low, high = limits
    return low + (high - low) * share
