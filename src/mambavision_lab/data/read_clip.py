"""Read some frames of a clip: a video file, or a folder of frames as image files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambavision_lab.data.decode import decode
from mambavision_lab.data.folders import CLIPS, scan
from mambavision_lab.errors import ConfigError, missing_extra, reason


class Clip:
    """A clip, of which only the frames that are asked for are decoded.

    Args:
        path: A video file, or a folder of frames, in the order of their names and the numbers in them.
        in_chans: 1 for grey, 3 for colour.

    Attributes:
        num_frames: How many there are.

    Raises:
        ConfigError: It cannot be read; or a package is missing.
    """

    def __init__(self, path: str | Path, in_chans: int) -> None:
        self.path, self.in_chans = Path(path), in_chans
        self._frames: list[Any] = (
            _frame_files(self.path) if self.path.is_dir() else _timestamps(self.path)
        )
        self.num_frames = len(self._frames)
        if not self.num_frames:
            raise ConfigError(f"{path}: holds no frames")

    def read(self, indices: Sequence[int]) -> Tensor:
        """Decode the frames of these ascending indices; returns uint8, (frames, in_chans, H, W).

        Raises:
            ConfigError: They cannot be read, or have several sizes.
        """
        wanted = [self._frames[index] for index in indices]
        if self.path.is_dir():
            frames = [decode(str(file), self.in_chans) for file in wanted]
            sizes = {
                tuple(frame.shape[1:]): file for frame, file in zip(frames, wanted, strict=True)
            }
            if len(sizes) > 1:
                (first, _), (other, file) = list(sizes.items())[:2]
                raise ConfigError(
                    f"{file}: has {other[0]} x {other[1]} pixels, other frames of the clip {first[0]} x "
                    f"{first[1]}; wanted frames of one size"
                )
            return torch.stack(frames)
        pixels = torch.from_numpy(np.stack(_decode(self.path, wanted, self.in_chans)))
        return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


def _frame_files(folder: Path) -> list[Path]:
    names = [entry.name for entry in scan(folder) if CLIPS.is_part(entry.name)]
    return [folder / name for name in sorted(names, key=_natural)]


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing_extra("a video file", "av", "video") from error
    return av


def _timestamps(path: Path) -> list[int]:
    """List when each frame of a video is shown, in its own unit, without decoding any."""
    av = _av()
    try:
        with av.open(str(path)) as video:
            if not video.streams.video:
                raise ConfigError(f"{path}: holds no video")
            packets = video.demux(video.streams.video[0])
            return sorted(packet.pts for packet in packets if packet.pts is not None)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a video ({reason(error, 120)})") from error


def _decode(path: Path, wanted: Sequence[int], in_chans: int) -> list[np.ndarray]:
    """Decode the frames that are shown at these times, from the keyframe before the first."""
    av, pixels = _av(), {1: "gray", 3: "rgb24"}[in_chans]
    found: dict[int, np.ndarray] = {}
    try:
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            video.seek(wanted[0], stream=stream)
            for frame in video.decode(stream):
                if frame.pts in wanted and not frame.is_corrupt:
                    found[frame.pts] = frame.to_ndarray(format=pixels)
                if len(found) == len(wanted):
                    break
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a video ({reason(error, 120)})") from error
    if len(found) < len(wanted):
        raise ConfigError(
            f"{path}: {len(wanted) - len(found)} of {len(wanted)} frames cannot be decoded; is it damaged?"
        )
    return [found[time] for time in wanted]
