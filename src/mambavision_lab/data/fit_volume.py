"""Prepare a volume of any size and values as uint8 of the network's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.data.read_volume import Volume, read_volume
from mambavision_lab.data.value_range import ValueRange, to_bytes
from mambavision_lab.data.volumes import resize_volumes
from mambavision_lab.errors import ConfigError

_MOST_VOXELS = 4096  # a side of a resampled volume
_OUTLIERS = (0.5, 99.5)  # percentiles of a volume's values that become black and white


@dataclass(frozen=True)
class FitVolume:
    """Read volumes and bring them to the network's size.

    Attributes:
        num_slices: Slices that the network receives.
        image_size: Its height and width in pixels.
        in_chans: Its channels.
        spacing: Millimetres between slices, rows and columns to which volumes are resampled, before their
            centre is cut out or zeros are added around; None resizes the whole of each.
        value_range: Values that become black and white; None takes each volume's own, without outliers, and
            leaves uint8 as it is.
    """

    num_slices: int
    image_size: int
    in_chans: int
    spacing: tuple[float, float, float] | None = None
    value_range: ValueRange | None = None

    def __call__(self, path: str | Path) -> Tensor:
        """Read a volume, as `read_volume` does; returns uint8, (in_chans, D, H, W).

        Raises:
            ConfigError: It cannot be read, has other channels, or no spacing although one is wanted.
        """
        return self.fit(read_volume(path), str(path))

    def fit(self, volume: Volume, name: str) -> Tensor:
        """Do the same for a volume that has been read, named so in messages."""
        pixels = self.pixels(volume, name)
        sides = (self.num_slices, self.image_size, self.image_size)
        if self.spacing is None:
            return resize_volumes(pixels[None], sides)[0].contiguous()
        if volume.spacing is None:
            raise ConfigError(
                f"{name}: its spacing is missing or zero, and data.spacing={list(self.spacing)} is wanted; "
                "correct the file, or give data.spacing=null"
            )
        scales = [own / new for own, new in zip(volume.spacing, self.spacing, strict=True)]
        resampled = [
            max(1, round(side * scale))
            for side, scale in zip(pixels.shape[1:], scales, strict=True)
        ]
        if max(resampled) > _MOST_VOXELS:
            raise ConfigError(
                f"{name}: at data.spacing={list(self.spacing)} it has the sides {resampled}; wanted at most "
                f"{_MOST_VOXELS} a side: choose a coarser spacing, or correct that of the file"
            )
        return cut_or_pad(resize_volumes(pixels[None], resampled)[0], sides).contiguous()

    def read(self, path: str | Path) -> Tensor:
        """Read a volume at its own size; returns uint8, (in_chans, D, H, W).

        Raises:
            ConfigError: It cannot be read, or has other channels.
        """
        return self.pixels(read_volume(path), str(path))

    def pixels(self, volume: Volume, name: str) -> Tensor:
        """Do the same for a volume that has been read, named so in messages."""
        chans = len(volume.values)
        if chans not in (1, self.in_chans):
            raise ConfigError(
                f"{name}: has {chans} channels; wanted {self.in_chans} or 1 (data.in_chans)"
            )
        return torch.from_numpy(self._to_bytes(volume.values)).expand(self.in_chans, -1, -1, -1)

    def _to_bytes(self, values: np.ndarray) -> np.ndarray:
        if self.value_range is not None:
            return to_bytes(values, self.value_range)
        if values.dtype == np.uint8:
            return np.ascontiguousarray(values)
        if values.dtype == bool:
            return values.astype(np.uint8) * 255
        finite = values[np.isfinite(values)]
        if not finite.size:
            return np.zeros(values.shape, np.uint8)
        low, high = np.percentile(finite, _OUTLIERS)
        if not low < high:
            low, high = float(finite.min()), float(finite.max())
        return to_bytes(values, (low, high if high > low else low + 1))


def cut_or_pad(volume: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut the centre out of a volume (C, D, H, W), or add zeros around, to these sides."""
    for axis, side in enumerate(sides, start=1):
        start = max(0, (volume.shape[axis] - side) // 2)
        volume = volume.narrow(axis, start, min(side, volume.shape[axis]))
    missing = [side - own for side, own in zip(sides, volume.shape[1:], strict=True)]
    return F.pad(volume, [pad for m in reversed(missing) for pad in (m // 2, m - m // 2)])
