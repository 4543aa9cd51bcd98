"""Synthetic images and volumes of shapes whose masks are known; everything follows from the seed.

Images show one object of `synthetic.py` each, anywhere and of any size: its class is its shape. Volumes show
several, and a slice through a ball looks like one through a tube: their class needs the third axis.
"""

import math
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.settings import require_positive
from mambavision_lab.data.splits import Splits
from mambavision_lab.data.synthetic import (
    SHAPES,
    Placement,
    SyntheticDataModule,
    draw_uniform,
    generate_masked_images,
)
from mambavision_lab.data.volumes import VolumeDataModule
from mambavision_lab.errors import ConfigError

BACKGROUND = "background"
SOLIDS = ("ball", "box", "tube")
_PLACE = Placement(radius=(0.3, 0.6), offset=(0.0, 0.4))
_CHUNK = 64  # generated at once


class SyntheticSegmentationDataModule(SyntheticDataModule):
    """Images with one shape each; class 0 is the background, class k the shape k - 1.

    Settings as in `SyntheticDataModule`.

    Raises:
        ConfigError: There are fewer than 2 classes, or more than shapes.
    """

    has_masks: ClassVar[bool] = True

    def load(self) -> Splits:
        """Generate the three splits, each from a random stream of its own."""
        _check_classes(self.num_classes, SHAPES)
        splits = super().load()
        splits.class_names = [BACKGROUND, *SHAPES[: self.num_classes - 1]]
        return splits

    def _generate_split(self, num: int, stream: int) -> InMemoryImages:
        generator = torch.Generator().manual_seed(3 * self.seed + stream)
        shapes = torch.arange(num) % (self.num_classes - 1)
        shapes = shapes[torch.randperm(num, generator=generator)]
        parts = []
        for chunk in shapes.split(_CHUNK):
            made = generate_masked_images(chunk, self.image_size, self.in_chans, generator, _PLACE)
            parts.append((made[0], made[1] * (1 + chunk[:, None, None])))
        images, masks = (torch.cat(each) for each in zip(*parts, strict=True))
        return InMemoryImages(images, masks.to(torch.uint8))


class SyntheticVolumeSegmentationDataModule(VolumeDataModule):
    """Volumes with several solids each, of random brightness; class 0 is the background.

    Args:
        num_train: Volumes to train on.
        num_val: Volumes to validate on.
        num_test: Volumes to test on.
        num_objects: Solids in each; where two overlap the later one is seen.

    Other settings as in `VolumeDataModule`.

    Raises:
        ConfigError: There are fewer than 2 classes or more than solids, or slices are left out.
    """

    has_masks: ClassVar[bool] = True

    def __init__(
        self,
        *,
        num_train: int = 600,
        num_val: int = 40,
        num_test: int = 80,
        num_objects: int = 2,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        require_positive(
            num_train=num_train, num_val=num_val, num_test=num_test, num_objects=num_objects
        )
        _check_classes(self.num_classes, SOLIDS)
        self.num_volumes = (num_train, num_val, num_test)
        self.num_objects = num_objects

    def load(self) -> Splits:
        """Generate the three splits, each from a random stream of its own."""
        train, val, test = (self._split(num, stream) for stream, num in enumerate(self.num_volumes))
        return Splits(train, val, test, [BACKGROUND, *SOLIDS[: self.num_classes - 1]])

    def _split(self, num: int, stream: int) -> InMemoryImages:
        generator = torch.Generator().manual_seed(3 * self.seed + stream)
        numbers = torch.arange(num).split(_CHUNK)
        parts = [self._generate(len(chunk), generator) for chunk in numbers]
        volumes, masks = (torch.cat(each) for each in zip(*parts, strict=True))
        return InMemoryImages(volumes, masks)

    def _generate(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Generate volumes, uint8, (N, in_chans, num_slices, side, side), and their masks."""
        uniform = partial(draw_uniform, num, generator)
        sides = (self.num_slices, self.image_size, self.image_size)
        axes = [torch.linspace(-1, 1, side) for side in sides]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # (D, H, W, 3)
        volume = uniform(0.0, 0.25, self.in_chans, 1, 1, 1).expand(-1, -1, *sides)
        masks = torch.zeros(num, *sides, dtype=torch.uint8)
        for _ in range(self.num_objects):
            solids = torch.randint(self.num_classes - 1, (num,), generator=generator)
            centre, radius = uniform(-0.5, 0.5, 1, 1, 1, 3), uniform(0.45, 0.65, 1, 1, 1)
            own = (points - centre) / radius[..., None]
            own = own @ _rotations(uniform(-0.5, 0.5, 2))[:, None, None]
            inside = _solids(own)[solids, torch.arange(num)]
            brightness = uniform(0.5, 1.0, self.in_chans, 1, 1, 1)
            volume = torch.where(inside[:, None], brightness, volume)
            masks = torch.where(inside, (1 + solids).to(torch.uint8)[:, None, None, None], masks)
        volume = volume + 0.08 * torch.randn(volume.shape, generator=generator)
        return (volume.clamp_(0, 1) * 255).round_().to(torch.uint8), masks


def _solids(points: Tensor) -> Tensor:
    """Return which points (N, D, H, W, 3) each of SOLIDS contains, (3, N, D, H, W)."""
    along, across = points[..., 0].abs(), points[..., 1:].square().sum(-1).sqrt()
    ball = points.square().sum(-1) < 1
    box = points.abs().amax(-1) < 0.75
    return torch.stack([ball, box, (along < 1.5) & (across < 0.5)])


def _rotations(turns: Tensor) -> Tensor:
    """Return rotations (N, 3, 3) about two axes by shares of a half turn, (N, 2)."""
    cos, sin = (math.pi * turns).cos(), (math.pi * turns).sin()
    zero, one = torch.zeros(len(turns)), torch.ones(len(turns))
    first = [[cos[:, 0], -sin[:, 0], zero], [sin[:, 0], cos[:, 0], zero], [zero, zero, one]]
    second = [[cos[:, 1], zero, -sin[:, 1]], [zero, one, zero], [sin[:, 1], zero, cos[:, 1]]]
    made = [torch.stack([torch.stack(row, -1) for row in rows], -2) for rows in (first, second)]
    return made[0] @ made[1]


def _check_classes(num_classes: int, shapes: tuple[str, ...]) -> None:
    if not 2 <= num_classes <= len(shapes) + 1:
        raise ConfigError(
            f"data.num_classes={num_classes}: wanted 2 to {len(shapes) + 1}, the background and "
            f"{', '.join(shapes)}"
        )
