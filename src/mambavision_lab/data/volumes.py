"""The base of the data modules of volumes and clips: uint8 (N, C, D, H, W), slices or frames along D."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.settings import require_positive
from mambavision_lab.errors import ConfigError

SLICES = ("all", "middle", "shuffled")
_CHUNK = 128  # volumes resized at once
_NUM_SHOWN = 8  # slices side by side


class VolumeDataModule(ImageDataModule):
    """Base of the data modules of volumes and clips; augmented as images are, all slices of one alike.

    Args:
        num_slices: Slices or frames that the network receives.
        slices: "all" in order; or a control: the "middle" one alone, as images for a network of two axes, or
            all "shuffled", in an order of each volume's own, in training and evaluation alike.

    Other settings as in `ImageDataModule`; `image_size` is the height and width.

    Raises:
        ConfigError: A setting is impossible.
    """

    supports_any_in_chans: ClassVar[bool] = True

    def __init__(self, *, num_slices: int, slices: str = "all", **settings: Any) -> None:
        super().__init__(**settings)
        require_positive(num_slices=num_slices)
        if slices not in SLICES:
            raise ConfigError(f"data.slices={slices} is unknown; choose {', '.join(SLICES)}")
        if self.has_masks and slices != "all":
            raise ConfigError(
                f"data.slices={slices}: masks are of whole volumes; give data.slices=all"
            )
        self.num_slices, self.slices = num_slices, slices

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of what the network receives: slices, height and width; of one slice the last two."""
        plane = super().sides
        return plane if self.slices == "middle" else (self.num_slices, *plane)

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        return super().metadata() | {"num_slices": self.num_slices, "slices": self.slices}

    def volumes_in_memory(self, volumes: Tensor, labels: Tensor, stream: int) -> InMemoryImages:
        """Make a data set of uint8 volumes (N, C, D, H, W), of which `slices` are kept.

        Args:
            volumes: The volumes.
            labels: Class of each, (N,).
            stream: Number of the split, from which the order of shuffled slices follows.
        """
        indices = torch.arange(len(volumes))
        kept = keep_slices(volumes, indices, self.slices, self.slices_seed(stream))
        return InMemoryImages(kept, labels)

    def slices_seed(self, stream: int) -> int:
        """Return what the order of shuffled slices follows from in the split of this number."""
        return 3 * self.seed + stream


def keep_slices(volumes: Tensor, indices: Tensor, slices: str, seed: int) -> Tensor:
    """Return some slices of volumes (N, C, D, H, W), or all in another order.

    Args:
        volumes: The volumes.
        indices: Their indices in the split, (N,), from which, with the seed, a shuffled order follows.
        slices: As in `VolumeDataModule`.
        seed: That of the split.
    """
    if slices == "middle":
        return volumes[:, :, volumes.shape[2] // 2].contiguous()
    if slices == "shuffled":
        draws = Draws(seed, 0, indices)
        keys = torch.stack([draws.uniform() for _ in range(volumes.shape[2])], dim=1)
        return volumes.take_along_dim(keys.argsort(dim=1)[:, None, :, None, None], dim=2)
    return volumes


def resize_volumes(volumes: Tensor, sides: Sequence[int]) -> Tensor:
    """Resize volumes (N, C, D, H, W) to these sides: by means where an axis shrinks, else linearly.

    Those of uint8 are rounded; those of these sides stay as they are.
    """
    if tuple(volumes.shape[2:]) == tuple(sides):
        return volumes
    smaller = [min(side, own) for side, own in zip(sides, volumes.shape[2:], strict=True)]
    resized = []
    for part in volumes.split(_CHUNK):  # a float of each takes four times the memory
        values = F.interpolate(part.float(), smaller, mode="area")
        if smaller != list(sides):
            values = F.interpolate(values, list(sides), mode="trilinear")
        resized.append(values.round() if volumes.dtype == torch.uint8 else values)
    return torch.cat(resized).to(volumes.dtype)


def side_by_side(pixels: Tensor) -> Tensor:
    """Lay eight slices of a volume or clip (C, D, H, W), evenly spaced, beside each other: (C, H, 8 W).

    Fewer slices are all shown; images (C, H, W) stay as they are.
    """
    if pixels.ndim == 3:
        return pixels
    depth = pixels.shape[1]
    some = torch.linspace(0, depth - 1, min(_NUM_SHOWN, depth)).long()
    return pixels[:, some].transpose(1, 2).flatten(2)


def four_slices(volume: Tensor) -> Tensor:
    """Lay four slices of a volume or clip (C, D, H, W), evenly spaced, out in two rows: (C, 2 H, 2 W)."""
    depth = volume.shape[1]
    first, second, third, fourth = (volume[:, (2 * k + 1) * depth // 8] for k in range(4))
    rows = [torch.cat(pair, dim=2) for pair in ((first, second), (third, fourth))]
    return torch.cat(rows, dim=1)
