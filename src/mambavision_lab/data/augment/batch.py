"""Augmentation of whole batches, each image with its own random parameters, on the batch's device.

torchvision's transforms sample one set of parameters for a batch; here every image has its own flip,
shift, rotation, colour factors and erased rectangle, computed for all images at once.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn

from mambavision_lab.data.augment.affine import move_affinely
from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.mixing import Mixing
from mambavision_lab.data.augment.whole_pixels import mirror, shift
from mambavision_lab.errors import ConfigError

ALTERNATING = "alternating"
INTERPOLATIONS = ("bilinear", "bicubic", "random")
_ERASED_AREA = (0.02, 1 / 3)  # share of the image; the defaults of timm and torchvision
_ERASED_ASPECT = (0.3, 1 / 0.3)
_NUM_NOISES = 2**16


class Augment(nn.Module):
    """Randomly flip, shift, rotate, recolour and erase square images.

    Args:
        horizontal_flip: Mirror half of the images: true for a random half, "alternating" for each image
            every second epoch, so that two epochs show both of its sides.
        shift: Largest shift along each axis as a share of the side, in whole pixels.
        padding: What a shift lets in: "zeros", or the image mirrored at its border ("reflect").
        rotation_deg: Largest rotation in degrees, in either direction; lets zeros in.
        brightness: Brightness is scaled by 1 +- this.
        contrast: Distance from the image's mean is scaled by 1 +- this.
        saturation: Distance from grey is scaled by 1 +- this; no effect on one channel.
        erasing: Share of the images in which a rectangle is replaced by noise of the image's own mean
            and spread.
        crop_scale: Smallest and largest share of an image file's area in its random crop, made when the
            file is decoded, or None to take the centre; no effect on images held in memory.
        crop_interpolation: How it is resized: "bilinear", "bicubic", or "random" for one of the two.
        policy: A transform of torchvision or of `policies.py`, applied to each image, uint8, (C, H, W), by
            the loader's workers, such as TrivialAugmentWide; or None.
        mixup: Parameter of MixUp's Beta distribution; 0 switches it off.
        cutmix: Parameter of CutMix's Beta distribution; 0 switches it off.
        mix_prob: Share of the batches (or images) that are mixed.
        mix_switch_prob: Share of the mixed ones that take CutMix, where both are on.
        mix_per_image: Whether each image draws its own share and area, or the batch one for all.
        repeats: How often an epoch gives an image, augmented anew, in a repeats-th of the images.

    Raises:
        ConfigError: A choice is unknown or a number is out of range.

    Source: Zhong et al. 2017, arXiv:1708.04896 (erasing); Jordan 2024, arXiv:2404.00498 (alternating flip).
    """

    def __init__(
        self,
        *,
        horizontal_flip: bool | str = False,
        shift: float = 0.0,
        padding: str = "zeros",
        rotation_deg: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        erasing: float = 0.0,
        crop_scale: list[float] | None = None,
        crop_interpolation: str = "bilinear",
        policy: nn.Module | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mix_prob: float = 1.0,
        mix_switch_prob: float = 0.5,
        mix_per_image: bool = False,
        repeats: int = 1,
    ) -> None:
        super().__init__()
        if horizontal_flip not in (True, False, ALTERNATING):
            raise ConfigError(
                f"augment.horizontal_flip={horizontal_flip} is unknown; "
                f"choose true, false or {ALTERNATING}"
            )
        if padding not in ("zeros", "reflect"):
            raise ConfigError(f"augment.padding={padding} is unknown; choose zeros or reflect")
        for name, share in (
            *(("shift", shift), ("erasing", erasing), ("brightness", brightness)),
            *(("contrast", contrast), ("saturation", saturation)),
        ):
            if not 0 <= share <= 1:
                raise ConfigError(f"augment.{name}={share} must lie between 0 and 1")
        if not 0 <= rotation_deg <= 180:
            raise ConfigError(f"augment.rotation_deg={rotation_deg} must lie between 0 and 180")
        if crop_scale is not None and not _is_range_of_shares(crop_scale):
            raise ConfigError(
                f"augment.crop_scale={crop_scale}: wanted [LOW,HIGH] with 0 < LOW <= HIGH <= 1, or null"
            )
        if crop_interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"augment.crop_interpolation={crop_interpolation} is unknown; "
                f"choose {', '.join(INTERPOLATIONS)}"
            )
        if repeats < 1:
            raise ConfigError(f"augment.repeats={repeats} must be at least 1")
        self.horizontal_flip = horizontal_flip
        self.shift = shift
        self.padding = padding
        self.rotation_deg = rotation_deg
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.erasing = erasing
        self.crop_scale = crop_scale
        self.crop_interpolation = crop_interpolation
        self.policy = policy
        self.repeats = repeats
        self.mixing = None
        if mixup or cutmix:
            self.mixing = Mixing(
                mixup=mixup,
                cutmix=cutmix,
                prob=mix_prob,
                switch_prob=mix_switch_prob,
                per_image=mix_per_image,
            )

    def forward(
        self, images: Tensor, draws: Draws | None = None, *, inplace: bool = False
    ) -> Tensor:
        """Augment images (N, C, side, side) with values in [0, 1], keeping shape and range.

        Args:
            images: The batch; or volumes (N, C, D, side, side), all slices of one of which change alike.
            draws: Random numbers of these images; None draws from torch's own random state.
            inplace: Whether the given images may be changed, which saves a copy.
        """
        if draws is None:
            draws = Draws.unseeded(len(images))
        images = images if inplace else images.clone()
        augmented = self.recolour(self.move(images, draws), draws)
        if self.erasing:
            planes = augmented.flatten(1, -3)
            self._erase(planes, draws)
            augmented = planes.reshape(images.shape)
        return augmented

    def move(self, images: Tensor, draws: Draws, interpolation: str = "bilinear") -> Tensor:
        """Return flipped, shifted and rotated images, or volumes whose slices are moved alike.

        The given ones may be changed. A rotation interpolates: "bilinear", or "nearest" for masks.
        """
        planes = images.flatten(1, -3)  # the slices of a volume as channels; images as they are
        pixels = round(self.shift * planes.shape[-1])
        if pixels:
            steps = [draws.integers(-pixels, pixels) for _ in range(2)]
            planes = shift(planes, steps, [pixels] * 2, self.padding)
        if self.horizontal_flip:
            is_alternating = self.horizontal_flip == ALTERNATING
            flips = draws.alternating() if is_alternating else draws.integers(0, 1) == 0
            mirror(planes, flips, axis=-1)
        return self._rotate(planes, draws, interpolation).reshape(images.shape)

    def _rotate(self, images: Tensor, draws: Draws, interpolation: str) -> Tensor:
        if not self.rotation_deg:
            return images
        angle = math.radians(self.rotation_deg) * draws.uniform(-1, 1)
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        theta = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).reshape(-1, 2, 3)
        return move_affinely(images, theta, interpolation)

    def recolour(self, images: Tensor, draws: Draws) -> Tensor:
        """Return images of other brightness, contrast and saturation."""
        if not (self.brightness or self.contrast or self.saturation):
            return images
        has_colour = images.shape[1] == 3
        brightness = _factors(draws, self.brightness, images)
        contrast = _factors(draws, self.contrast, images)
        saturation = _factors(draws, self.saturation if has_colour else 0, images)
        mean = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
        # Brightness first, then contrast about the mean, then saturation about grey; all are linear.
        images = torch.addcmul(mean * brightness * (1 - contrast), images, brightness * contrast)
        if self.saturation and has_colour:
            images.lerp_(images.mean(dim=1, keepdim=True), 1 - saturation)
        return images.clamp_(0, 1)

    def _erase(self, images: Tensor, draws: Draws) -> None:
        """Erase in place."""
        height, width = images.shape[2:]
        chosen = (draws.uniform() < self.erasing).nonzero().flatten()
        area = draws.uniform(*_ERASED_AREA) * height * width
        aspect = draws.uniform(*map(math.log, _ERASED_ASPECT)).exp()
        rows = _spans(height, (area * aspect).sqrt(), draws)
        columns = _spans(width, (area / aspect).sqrt(), draws)
        rows, columns = (axis[chosen].to(images.device) for axis in (rows, columns))
        noise = noise_like(images, draws, chosen)
        chosen = chosen.to(images.device)
        kept = images.index_select(0, chosen)
        mean, spread = (value[:, None, None, None] for value in _mean_and_spread(kept))
        noise = torch.addcmul(mean, noise, spread).clamp_(0, 1)
        is_erased = rows[:, None, :, None] & columns[:, None, None, :]
        images.index_copy_(0, chosen, torch.where(is_erased, noise, kept))


def _mean_and_spread(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each image; `torch.std_mean` takes ten times as long."""
    values = images.flatten(1)
    mean = values.mean(1)
    mean_square = torch.linalg.vector_norm(values, dim=1).square() / values.shape[1]
    return mean, (mean_square - mean.square()).clamp_min(0).sqrt()


def _is_range_of_shares(given: list[float]) -> bool:
    return len(given) == 2 and 0 < given[0] <= given[1] <= 1


def noise_like(images: Tensor, draws: Draws, chosen: Tensor | None = None) -> Tensor:
    """Return normal noise of the shape of images, or of the chosen ones, for each of its own."""
    num_values = images[0].numel()
    starts = draws.integers(0, _NUM_NOISES - 1)
    starts = (starts if chosen is None else starts[chosen]).to(images.device)
    noise = _noise(num_values, images.device).unfold(0, num_values, 1).index_select(0, starts)
    return noise.view(-1, *images.shape[1:])


@cache
def _noise(num_values: int, device: torch.device) -> Tensor:
    """Return normal noise, of which each image takes num_values from a place of its own."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_NUM_NOISES + num_values, generator=generator).to(device)


def _factors(draws: Draws, spread: float, images: Tensor) -> Tensor:
    if not spread:
        return images.new_ones(())
    factors = draws.uniform(1 - spread, 1 + spread)
    return factors.to(images.device, images.dtype).reshape(-1, *[1] * (images.ndim - 1))


def _spans(size: int, length: Tensor, draws: Draws) -> Tensor:
    """Draw a run of pixels of some length in each image; returns whether a pixel is in it, (N, size)."""
    length = length.round().long().clamp(1, size)
    start = (draws.uniform() * (size - length + 1)).long()[:, None]
    pixels = torch.arange(size)
    return (pixels >= start) & (pixels < start + length[:, None])
