"""Augmentation of whole batches of volumes and clips along all three axes, each with its own parameters."""

import math

import torch
from torch import Tensor

from mambavision_lab.data.augment.affine import move_affinely
from mambavision_lab.data.augment.batch import Augment, noise_like
from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.augment.whole_pixels import mirror, shift
from mambavision_lab.errors import ConfigError

_PADDING = {"zeros": "zeros", "reflect": "reflection"}


class VolumeAugment(Augment):
    """Randomly flip, turn, tilt, crop, shift and recolour volumes and clips; interpolated once.

    Args:
        vertical_flip: Mirror a random half from top to bottom.
        depth_flip: Mirror a random half from the first slice to the last; turns the time of a clip around.
        quarter_turns: Turn in the plane by 0, 90, 180 or 270 degrees, all equally likely.
        tilt_deg: Largest rotation in degrees about both axes of the plane, in either direction.
        crop_share: Smallest share of each side that is cropped and enlarged, the same for all axes of a
            volume; 1 leaves them whole.
        gamma: Values v in [0, 1] become v to the power of e^x, with x up to this in either direction.
        noise: Largest standard deviation of the normal noise that is added to the values in [0, 1].

    Other settings as in `Augment`, whose rotation_deg is that in the plane; its shift is along each axis, and
    its horizontal_flip is random.

    Raises:
        ConfigError: A number is out of range, or a choice is for images.
    """

    def __init__(
        self,
        *,
        vertical_flip: bool = False,
        depth_flip: bool = False,
        quarter_turns: bool = False,
        tilt_deg: float = 0.0,
        crop_share: float = 1.0,
        gamma: float = 0.0,
        noise: float = 0.0,
        **settings: object,
    ) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        if self.policy is not None or self.horizontal_flip not in (True, False):
            what = "policy" if self.policy is not None else "horizontal_flip"
            raise ConfigError(
                f"augment.{what}: is for images; volumes and clips take true or false"
            )
        if not 0 <= tilt_deg <= 180:
            raise ConfigError(f"augment.tilt_deg={tilt_deg} must lie between 0 and 180")
        if not 0 < crop_share <= 1:
            raise ConfigError(f"augment.crop_share={crop_share} must lie above 0 and at most at 1")
        for name, spread in (("gamma", gamma), ("noise", noise)):
            if not 0 <= spread <= 1:
                raise ConfigError(f"augment.{name}={spread} must lie between 0 and 1")
        self.flips = (bool(self.horizontal_flip), vertical_flip, depth_flip)
        self.quarter_turns, self.tilt_deg, self.crop_share = quarter_turns, tilt_deg, crop_share
        self.gamma, self.noise = gamma, noise

    def move(self, images: Tensor, draws: Draws, interpolation: str = "bilinear") -> Tensor:
        """Return flipped, turned, tilted, cropped and shifted volumes (N, C, D, H, W), side H = W.

        Interpolation is "bilinear", along all axes, or "nearest" for masks.
        """
        if images.ndim != 5:
            raise ConfigError(
                "augment: is for volumes and clips, and these are images; choose light"
            )
        if not (self.quarter_turns or self.rotation_deg or self.tilt_deg or self.crop_share < 1):
            return self._move_by_voxels(images, draws)
        num = len(images)
        sides = images.shape[:1:-1]  # W, H, D: the order of grid_sample's coordinates
        lengths = torch.tensor([float(side) for side in sides])
        turn = torch.eye(3).expand(num, 3, 3)
        if any(self.flips):
            signs = [
                1 - 2.0 * draws.integers(0, 1) if flip else torch.ones(num) for flip in self.flips
            ]
            turn = turn * torch.stack(signs, dim=1)[:, None]
        if self.quarter_turns or self.rotation_deg:
            angle = math.radians(self.rotation_deg) * draws.uniform(-1, 1)
            quarters = draws.integers(0, 3) if self.quarter_turns else torch.zeros(num)
            turn = _rotation(angle, 0, 1, quarters) @ turn
        if self.tilt_deg:
            for axis in (0, 1):
                turn = _rotation(math.radians(self.tilt_deg) * draws.uniform(-1, 1), axis, 2) @ turn
        offset = torch.zeros(num, 3)
        if self.crop_share < 1:
            share = draws.uniform(self.crop_share, 1)[:, None]
            turn = turn * share[:, None]
            place = torch.stack([draws.uniform(-1, 1) for _ in sides], dim=1)
            # Between the outermost voxels' centres.
            offset = (1 - share) * (1 - 1 / lengths) * place
        if self.shift:
            steps, _ = self._steps(images, draws)
            offset = offset + torch.stack(steps[::-1], dim=1) * 2 / lengths
        if not (self.rotation_deg or self.tilt_deg or self.crop_share < 1):
            interpolation = "nearest"  # whole voxels move to whole voxels
        # A rotation is one in voxels, and coordinates reach from -1 to 1 along each axis.
        turn = turn * lengths / lengths[:, None]
        theta = torch.cat([turn, offset[:, :, None]], dim=2)
        return move_affinely(images, theta, interpolation, _PADDING[self.padding])

    def _move_by_voxels(self, images: Tensor, draws: Draws) -> Tensor:
        flips = {
            axis: draws.integers(0, 1) == 1
            for axis, is_on in zip((-1, -2, -3), self.flips, strict=True)
            if is_on
        }
        if self.shift:
            images = shift(images, *self._steps(images, draws), self.padding)
        for axis, is_flipped in flips.items():
            mirror(images, is_flipped, axis)
        return images

    def _steps(self, images: Tensor, draws: Draws) -> tuple[list[Tensor], list[int]]:
        """Draw shifts in voxels along D, H and W; returns also their largest sizes."""
        most = [round(self.shift * side) for side in images.shape[2:]]
        return [draws.integers(-num, num) for num in reversed(most)][::-1], most

    def recolour(self, images: Tensor, draws: Draws) -> Tensor:
        """Return volumes of other brightness, contrast and gamma, with noise."""
        images = super().recolour(images, draws)
        one_each = (-1, *[1] * (images.ndim - 1))
        if self.gamma:
            power = draws.uniform(-self.gamma, self.gamma).exp()
            images = _powers(images, power)
        if self.noise:
            spread = draws.uniform(0, self.noise).to(images.device)
            images = images + spread.reshape(one_each) * noise_like(images, draws)
        return images.clamp(0, 1) if self.noise else images


def _powers(volumes: Tensor, powers: Tensor) -> Tensor:
    """Return each volume to a power of its own.

    On a CPU one after the other: how torch rounds a power depends on a value's place in the whole tensor.
    """
    if volumes.device.type != "cpu":
        return volumes.pow(powers.to(volumes.device).reshape(-1, *[1] * (volumes.ndim - 1)))
    raised = torch.empty_like(volumes)
    for volume, power, out in zip(volumes, powers.tolist(), raised, strict=True):
        torch.pow(volume, power, out=out)
    return raised


def _rotation(angle: Tensor, first: int, second: int, quarters: Tensor | None = None) -> Tensor:
    """Return rotations (N, 3, 3) by angles (N,), and so many quarter turns, in the plane of two axes.

    Quarter turns are exact.
    """
    cos, sin = angle.cos(), angle.sin()
    if quarters is not None:
        cosines, sines = torch.tensor([1.0, 0, -1, 0]), torch.tensor([0.0, 1, 0, -1])
        c, s = cosines[quarters.long()], sines[quarters.long()]
        cos, sin = cos * c - sin * s, sin * c + cos * s
    rotation = torch.eye(3).repeat(len(angle), 1, 1)
    rotation[:, first, first] = rotation[:, second, second] = cos
    rotation[:, first, second], rotation[:, second, first] = -sin, sin
    return rotation
