"""Augmentation of whole batches, each image with its own random parameters, on the batch's device.

torchvision's transforms sample one set of parameters for a batch; here every image has its own affine
warp and colour factors, computed for all images at once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Augment(nn.Module):
    """Randomly flip, shift, rotate and recolour square images.

    Args:
        horizontal_flip: Mirror half of the images.
        shift: Largest shift along each axis as a share of the side, in whole pixels, padded with zeros.
        rotation_deg: Largest rotation in degrees, in either direction.
        brightness: Brightness is scaled by 1 +- this.
        contrast: Distance from the image's mean is scaled by 1 +- this.
        saturation: Distance from grey is scaled by 1 +- this; no effect on one channel.
        crop_scale: Smallest and largest share of an image file's area in its random crop, made when the
            file is decoded, or None to take the centre; no effect on images held in memory.
    """

    def __init__(
        self,
        *,
        horizontal_flip: bool = False,
        shift: float = 0.0,
        rotation_deg: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        crop_scale: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.horizontal_flip = horizontal_flip
        self.shift = shift
        self.rotation_deg = rotation_deg
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.crop_scale = crop_scale

    def forward(self, images: Tensor) -> Tensor:
        """Augment images (N, C, side, side) with values in [0, 1], keeping shape and range."""
        return self._recolour(self._warp(images))

    def _warp(self, images: Tensor) -> Tensor:
        if not (self.horizontal_flip or self.shift or self.rotation_deg):
            return images
        num, side = images.shape[0], images.shape[-1]
        mirror = torch.ones(num, device=images.device)
        if self.horizontal_flip:
            mirror = 1 - 2 * torch.randint(2, (num,), device=images.device).float()
        angle = self._uniform(images, math.radians(self.rotation_deg))
        cos, sin = angle.cos(), angle.sin()
        pixels = round(self.shift * side)
        moves = torch.randint(-pixels, pixels + 1, (2, num), device=images.device) * (2 / side)
        rows = [mirror * cos, -sin, moves[0], mirror * sin, cos, moves[1]]
        theta = torch.stack(rows, dim=1).reshape(num, 2, 3).to(images.dtype)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)

    def _recolour(self, images: Tensor) -> Tensor:
        if not (self.brightness or self.contrast or self.saturation):
            return images
        if self.brightness:
            images = images * self._factor(images, self.brightness)
        if self.contrast:
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = mean + (images - mean) * self._factor(images, self.contrast)
        if self.saturation and images.shape[1] == 3:
            grey = images.mean(dim=1, keepdim=True)
            images = grey + (images - grey) * self._factor(images, self.saturation)
        return images.clamp(0, 1)

    def _factor(self, images: Tensor, spread: float) -> Tensor:
        return 1 + self._uniform(images, spread).reshape(-1, 1, 1, 1)

    @staticmethod
    def _uniform(images: Tensor, spread: float) -> Tensor:
        return (2 * torch.rand(len(images), device=images.device) - 1) * spread
