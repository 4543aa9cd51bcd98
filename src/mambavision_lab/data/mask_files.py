"""Read the mask of an image or a volume, and images with their masks as a data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mambavision_lab.data.checked_files import check_all, errors_by_name
from mambavision_lab.data.decode import FORMATS, squash
from mambavision_lab.data.folders import VOLUMES
from mambavision_lab.data.read_volume import read_volume
from mambavision_lab.data.volumes import resize_volumes
from mambavision_lab.errors import ConfigError, reason

Read = Callable[[str], Tensor]  # from a path to uint8 (C, H, W) or (C, D, H, W)
Pair = tuple[str, str]  # an image's path and that of its mask

RESIZE, CROP = "resize", "crop"


def read_mask(path: str, num_classes: int) -> Tensor:
    """Read a mask, (H, W) or (D, H, W), int64: an image file of one channel, .npy or NIfTI.

    Raises:
        ConfigError: It cannot be read, has channels, or values that are no classes.
    """
    name = path.lower()
    if name.endswith(VOLUMES.suffixes):
        values = _of_array(path) if name.endswith(".npy") else read_volume(path).values
    else:
        values = _of_image(path)
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim not in (2, 3) or not values.size or values.dtype.kind not in "uifb":
        raise ConfigError(
            f"{path}: holds {values.dtype} of shape {values.shape}; wanted one class for each pixel"
        )
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise ConfigError(f"{path}: its values are no integers; wanted the class of each pixel")
    low, high = values.min(), values.max()
    if low < 0 or high >= num_classes:
        wrong = int(low if low < 0 else high)
        raise ConfigError(
            f"{path}: has the value {wrong}, and data.num_classes={num_classes}; wanted 0 to "
            f"{num_classes - 1}: correct the mask, or data.num_classes"
        )
    return torch.from_numpy(values.astype(np.int64))


class MaskFiles(Dataset):
    """Images or volumes with their masks, each read when it is asked for.

    Args:
        pairs: Paths.
        read: From an image's path to uint8 (C, H, W), or (C, D, H, W) of a volume.
        num_classes: Number of classes.
        sides: Height and width that a network takes, of volumes after the slices.
        fit: "resize" brings the whole of each to these sides; "crop" cuts such a window out, in training at a
            random place, else in the middle.
        is_training: Whether it is for training.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        read: Read,
        num_classes: int,
        sides: Sequence[int],
        fit: str,
        *,
        is_training: bool,
    ) -> None:
        self.pairs, self.read, self.num_classes = list(pairs), read, num_classes
        self.sides, self.fit, self.is_training = tuple(sides), fit, is_training

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image, uint8 (C, *sides), and its mask, uint8 or int64 (*sides).

        Raises:
            ConfigError: A file cannot be read, they are of other shapes, or smaller than a window.
        """
        image, mask = self.load(index)
        if self.fit == RESIZE:
            return resize_image(image, self.sides), resize_masks(mask[None], self.sides)[0]
        place = self._window(image.shape[1:], self.pairs[index][0])
        return image[place].contiguous(), mask[place[1:]].contiguous()

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Read an image and its mask at their own size.

        Raises:
            ConfigError: A file cannot be read, or they are of other shapes.
        """
        path, mask_path = self.pairs[index]
        image, mask = self.read(path), read_mask(mask_path, self.num_classes)
        if mask.shape != image.shape[1:]:
            given, wanted = (" x ".join(map(str, x)) for x in (mask.shape, image.shape[1:]))
            raise ConfigError(
                f"{mask_path}: has {given} pixels, and its image {wanted}; wanted the same"
            )
        return image, mask

    def check(self) -> dict[str, str]:
        """Read every pair once; returns why each that cannot be used cannot, by the image's path."""

        def check(index: int) -> None:
            image, _ = self.load(index)
            if self.fit == CROP:
                self._spare(image.shape[1:], self.pairs[index][0])

        return errors_by_name(
            [path for path, _ in self.pairs], check_all(check, range(len(self.pairs)))
        )

    def _window(self, own: Sequence[int], path: str) -> tuple[slice, ...]:
        spare = self._spare(own, path)
        starts = [int(torch.randint(s + 1, ())) if self.is_training else s // 2 for s in spare]
        window = (slice(s, s + side) for s, side in zip(starts, self.sides, strict=True))
        return (slice(None), *window)

    def _spare(self, own: Sequence[int], path: str) -> list[int]:
        """Return how many pixels each side has more than the window.

        Raises:
            ConfigError: One has fewer.
        """
        spare = [have - side for have, side in zip(own, self.sides, strict=True)]
        if min(spare) < 0:
            raise ConfigError(
                f"{path}: has {' x '.join(map(str, own))} pixels, less than the window "
                f"{' x '.join(map(str, self.sides))}; lower data.image_size, or give data.fit=resize"
            )
        return spare


def resize_image(image: Tensor, sides: Sequence[int]) -> Tensor:
    """Resize an image (C, H, W), or a volume (C, D, H, W), to these sides."""
    if image.ndim == 3:
        return squash(image, sides[0]).contiguous()
    return resize_volumes(image[None], sides)[0].contiguous()


def resize_masks(masks: Tensor, sides: Sequence[int]) -> Tensor:
    """Resize masks (N, *sides) to the sides of images, without new values."""
    if masks.shape[1:] == tuple(sides):
        return masks
    return F.interpolate(masks[:, None].float(), list(sides), mode="nearest-exact")[:, 0].long()


def _of_image(path: str) -> np.ndarray:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode in ("RGB", "RGBA", "LA", "CMYK", "YCbCr"):
                raise ConfigError(
                    f"{path}: has the colours of {image.mode}; wanted one class for each pixel, in grey or "
                    "with a palette"
                )
            return np.asarray(image)  # a palette's numbers, not its colours
    except ConfigError:
        raise
    except Exception as error:  # Pillow's readers raise all kinds on damaged files
        raise ConfigError(f"{path}: cannot be read as a mask ({reason(error, 120)})") from error


def _of_array(path: str) -> np.ndarray:
    try:
        values: Any = np.load(path, allow_pickle=False)
    except Exception as error:  # of all kinds, on damaged files
        raise ConfigError(f"{path}: cannot be read as a mask ({reason(error, 120)})") from error
    return values


def stem_of(path: Path) -> str:
    """Return a file's name without its suffix, also one of two parts such as .nii.gz."""
    name = path.name
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else path.stem
