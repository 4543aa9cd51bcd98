"""Sample some frames of a clip, in training at random, and bring them to the network's size."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.data.image_files import CROP_FRACTION, evaluation_transform
from mambavision_lab.data.random_crop import RandomCrop
from mambavision_lab.data.read_clip import Clip
from mambavision_lab.errors import ConfigError


@dataclass(frozen=True)
class FitClip:
    """Read clips and bring them to the network's size.

    Attributes:
        num_frames: Frames that the network receives.
        frame_stride: One frame of so many is taken.
        image_size: Its height and width in pixels.
        in_chans: Its channels.
        is_random: Whether the first frame is drawn from torch's random state; else the clip's middle is
            taken.
        crop: Sampled from it as well; None takes the centre of the frames.
        crop_fraction: Share of the frames' shorter side that the centre has.
    """

    num_frames: int
    frame_stride: int
    image_size: int
    in_chans: int
    is_random: bool = False
    crop: RandomCrop | None = None
    crop_fraction: float = CROP_FRACTION

    def __call__(self, path: str | Path) -> Tensor:
        """Read frames of a clip; returns uint8, (in_chans, num_frames, image_size, image_size).

        Raises:
            ConfigError: It cannot be read, or is too short.
        """
        clip = Clip(path, self.in_chans)
        length = (self.num_frames - 1) * self.frame_stride + 1
        spare = clip.num_frames - length
        if spare < 0:
            raise ConfigError(
                f"{path}: has {clip.num_frames} frames, and {self.num_frames} of them with a stride of "
                f"{self.frame_stride} span {length}; lower data.num_slices or data.frame_stride"
            )
        start = int(torch.randint(spare + 1, ())) if self.is_random else spare // 2
        frames = clip.read(range(start, start + length, self.frame_stride))
        if self.crop is None:
            fitted = evaluation_transform(self.image_size, self.crop_fraction)(frames)
        else:
            fitted = self.crop.draw().of_frames(frames)
        return fitted.transpose(0, 1).contiguous()
