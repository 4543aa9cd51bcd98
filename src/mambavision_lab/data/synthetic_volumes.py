"""Synthetic volumes and clips whose class no single slice tells; everything follows from the seed.

In each slice the same object stands at an angle; its angle in the first slice is uniform, so that each slice
by itself is independent of the class, which is how the angle changes. Position, size, brightness and noise
are random and independent of the class too.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.settings import require_positive
from mambavision_lab.data.splits import Splits
from mambavision_lab.data.synthetic import draw_uniform
from mambavision_lab.data.volumes import VolumeDataModule
from mambavision_lab.errors import ConfigError

_CHUNK = 128  # volumes generated at once


class SyntheticVolumesDataModule(VolumeDataModule):
    """Bars that twist through the volume; class k is by how much, from one half turn to the other.

    Args:
        num_train: Volumes to train on.
        num_val: Volumes to validate on.
        num_test: Volumes to test on.

    Other settings as in `VolumeDataModule`. A mirrored volume twists the other way.

    Raises:
        ConfigError: There are too many classes for the slices.
    """

    def __init__(
        self, *, num_train: int = 1600, num_val: int = 400, num_test: int = 800, **settings: Any
    ) -> None:
        super().__init__(**settings)
        require_positive(num_train=num_train, num_val=num_val, num_test=num_test)
        self.num_volumes = (num_train, num_val, num_test)
        if self.num_slices < 3 or self.num_classes < 2:
            raise ConfigError(
                f"data.num_slices={self.num_slices} data.num_classes={self.num_classes}: wanted at least 3 "
                "slices and 2 classes"
            )
        self.check_classes()

    def check_classes(self) -> None:
        """Refuse more classes than the slices can tell apart."""
        if self.num_classes > self.num_slices:
            raise ConfigError(
                f"data.num_classes={self.num_classes}: {self.num_slices} slices show as many twists at most; "
                "lower it, or raise data.num_slices"
            )

    def class_title(self, label: int) -> str:
        """Name a class."""
        return f"twist{round(math.degrees(self._twist(label))):+d}"

    def angles(self, labels: Tensor, start: Tensor) -> Tensor:
        """Return the angle in each slice, (N, num_slices), from that of the first, (N,), in [0, 1)."""
        twists = torch.tensor([self._twist(k) for k in range(self.num_classes)])
        share = torch.linspace(0, 1, self.num_slices)
        return math.pi * start[:, None] + twists[labels][:, None] * share

    def has_object(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which points belong to the object, in coordinates that turn with it."""
        return (x.abs() < 1) & (y.abs() < 0.35)

    def load(self) -> Splits:
        """Generate the three splits, each from a random stream of its own."""
        train, val, test = (self._split(num, stream) for stream, num in enumerate(self.num_volumes))
        return Splits(train, val, test, [self.class_title(k) for k in range(self.num_classes)])

    def _twist(self, label: int) -> float:
        return math.pi * (label / (self.num_classes - 1) - 0.5)

    def _split(self, num: int, stream: int) -> InMemoryImages:
        generator = torch.Generator().manual_seed(3 * self.seed + stream)
        labels = torch.arange(num) % self.num_classes
        labels = labels[torch.randperm(num, generator=generator)]
        volumes = [self._generate(chunk, generator) for chunk in labels.split(_CHUNK)]
        return self.volumes_in_memory(torch.cat(volumes), labels, stream)

    def _generate(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Generate one volume per label; returns uint8, (N, in_chans, num_slices, side, side)."""
        num = len(labels)
        uniform = partial(draw_uniform, num, generator)
        axis = torch.linspace(-1, 1, self.image_size)
        angles = self.angles(labels, uniform(0, 1))[:, :, None, None]
        radius = uniform(0.6, 0.85, 1, 1, 1)
        dx = (axis - uniform(-0.15, 0.15, 1, 1, 1)) / radius
        dy = (axis[:, None] - uniform(-0.15, 0.15, 1, 1, 1)) / radius
        x, y = (
            dx * angles.cos() + dy * angles.sin(),
            dy * angles.cos() - dx * angles.sin(),
        )
        inside = self.has_object(x, y)[:, None]
        shape = (self.in_chans, 1, 1, 1)
        volume = torch.where(inside, uniform(0.6, 1.0, *shape), uniform(0.0, 0.3, *shape))
        is_bright = torch.randint(2, (num, 1, 1, 1, 1), generator=generator).bool()
        volume = torch.where(is_bright, 1 - volume, volume)
        volume += 0.08 * torch.randn(volume.shape, generator=generator)
        return (volume.clamp_(0, 1) * 255).round_().to(torch.uint8)


class SyntheticClipsDataModule(SyntheticVolumesDataModule):
    """Balls on an orbit; the class is their motion: which way round, and by how many places a frame.

    Each clip of T frames shows the ball once at each of T places, whatever its class, so that its frames in
    another order tell nothing.

    Settings as in `SyntheticVolumesDataModule`.
    """

    def check_classes(self) -> None:
        """Refuse more classes than there are motions that visit each place once."""
        if self.num_classes > (most := len(self._steps())):
            raise ConfigError(
                f"data.num_classes={self.num_classes}: {self.num_slices} frames show {most} motions at most; "
                "lower it, or raise data.num_slices"
            )

    def class_title(self, label: int) -> str:
        """Name a class."""
        step = self._steps()[label]
        return f"{'clockwise' if step > 0 else 'counterclockwise'}-{abs(step)}"

    def angles(self, labels: Tensor, start: Tensor) -> Tensor:
        """Return the angle in each frame, (N, num_slices), from that of the first, (N,), in [0, 1)."""
        places = torch.tensor(self._steps())[labels][:, None] * torch.arange(self.num_slices)
        return 2 * math.pi * (start[:, None] + places / self.num_slices)

    def has_object(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which points belong to the ball, in coordinates that turn with it."""
        return (x - 0.7).square() + y.square() < 0.3**2

    def _steps(self) -> list[int]:
        """Places per frame with which all are visited: 1 and -1, then ever more."""
        half = range(1, (self.num_slices + 1) // 2)
        return [sign * k for k in half if math.gcd(k, self.num_slices) == 1 for sign in (1, -1)]
