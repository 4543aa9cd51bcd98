"""Prepare an image, a volume or a clip as the data were prepared that a network was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor

from mambavision_lab.data.decode import WHITE, decode, decode_stack, squash
from mambavision_lab.data.fit_clip import FitClip
from mambavision_lab.data.fit_volume import FitVolume
from mambavision_lab.data.folders import CLIPS, IMAGES, VOLUMES, FileKind
from mambavision_lab.data.image_files import CROP_FRACTION, evaluation_transform
from mambavision_lab.data.normalize import normalize, per_channel
from mambavision_lab.data.read_volume import Volume, read_volume
from mambavision_lab.errors import ConfigError

# What a saved network tells of its data, and what only those tell that have such a setting.
SETTINGS = (
    *("image_size", "in_chans", "mean", "std"),
    *("keeps_aspect", "value_range", "crop_fraction", "background"),
)
SETTINGS_OF_SOME = ("num_slices", "slices", "spacing", "frame_stride", "fit")


@dataclass(frozen=True)
class Preparation:
    """What a network takes, and how it is prepared.

    Attributes:
        kind: Images, volumes or clips.
        sides: Height and width in pixels, of volumes and clips after the slices or frames.
        prepare: From a path, or what else the kind may be read from, to uint8 (C, *sides).
        read: The same at its own size, (C, H, W) or (C, D, H, W); None of clips.
        prepare_stack: As prepare, from images of one size, an array (N, H, W, C), to uint8 (N, C, H, W); None
            of volumes and clips.
        mean: Of each channel in [0, 1].
        std: As above.
        fit: Of data with masks, whether whole images were resized or windows cut out, as in `MaskFiles`.
    """

    kind: FileKind
    sides: tuple[int, ...]
    prepare: Callable[[Any], Tensor]
    read: Callable[[Any], Tensor] | None
    prepare_stack: Callable[[np.ndarray], Tensor] | None
    mean: list[float]
    std: list[float]
    fit: str | None = None

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return float32 inputs of the network for prepared pixels (N, C, *sides)."""
        return normalize(pixels.float() / 255, self.mean, self.std)


def preparation_of(settings: Mapping[str, Any], source: str) -> Preparation:
    """Make the preparation that a saved network's description names.

    Args:
        settings: Its `preprocessing`.
        source: Where it was saved, for messages.

    Raises:
        ConfigError: Something is missing, or of another number of channels.
    """
    needed = ("image_size", "in_chans", "mean", "std", "keeps_aspect")
    if missing := [name for name in needed if settings.get(name) is None]:
        raise ConfigError(f"{source}: does not give the {missing[0]} of its data; train it again")
    size, in_chans, fit = (
        int(settings["image_size"]),
        int(settings["in_chans"]),
        settings.get("fit"),
    )
    mean, std = (per_channel(settings[name], in_chans) for name in ("mean", "std"))
    if wrong := [values for values in (mean, std) if len(values) != in_chans]:
        raise ConfigError(
            f"{source}: gives {len(wrong[0])} means or deviations of {in_chans} channels; train it again"
        )
    if settings.get("num_slices") is None or settings.get("slices") == "middle":
        return Preparation(
            IMAGES, (size, size), *_of_images(settings, size, in_chans), mean, std, fit
        )
    num_slices = int(settings["num_slices"])
    sides = (num_slices, size, size)
    if (stride := settings.get("frame_stride")) is not None:
        fraction = settings.get("crop_fraction", CROP_FRACTION)
        fit_clip = FitClip(num_slices, stride, size, in_chans, crop_fraction=fraction)
        return Preparation(CLIPS, sides, fit_clip, None, None, mean, std)
    spacing, value_range = (
        tuple(settings[name]) if settings.get(name) is not None else None
        for name in ("spacing", "value_range")
    )
    fit_volume = FitVolume(num_slices, size, in_chans, spacing, value_range)

    def as_volume(volume: Any) -> tuple[Volume, str]:
        if isinstance(volume, str | PathLike):
            return read_volume(str(volume)), str(volume)
        values = np.asarray(volume)
        return Volume(values[None] if values.ndim == 3 else values), "array"

    def prepare(volume: Any) -> Tensor:
        return fit_volume.fit(*as_volume(volume))

    def read(volume: Any) -> Tensor:
        return fit_volume.pixels(*as_volume(volume))

    return Preparation(VOLUMES, sides, prepare, read, None, mean, std, fit)


def _of_images(
    settings: Mapping[str, Any], image_size: int, in_chans: int
) -> tuple[Callable[[Any], Tensor], Callable[[Any], Tensor], Callable[[np.ndarray], Tensor]]:
    """Return what prepares an image, what reads it at its own size, and what prepares several."""
    value_range = settings.get("value_range") and tuple(settings["value_range"])
    background = tuple(settings.get("background") or WHITE)
    fit = evaluation_transform(image_size, settings.get("crop_fraction", CROP_FRACTION))

    def read(image: Any) -> Tensor:
        return decode(image, in_chans, value_range, background)

    def resize(pixels: Tensor) -> Tensor:
        keeps_aspect = settings["keeps_aspect"]
        return (fit(pixels) if keeps_aspect else squash(pixels, image_size)).contiguous()

    def prepare(image: Any) -> Tensor:
        return resize(read(image))

    def prepare_stack(images: np.ndarray) -> Tensor:
        return resize(decode_stack(images, in_chans, background))

    return prepare, read, prepare_stack
