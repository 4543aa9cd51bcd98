"""Training images as they are fetched: each by its position, with random numbers of its own."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from mambavision_lab.data.augment.draws import Draws, keep_random_states, seed_libraries
from mambavision_lab.data.in_memory import InMemoryImages

TrainingBatch = tuple[Tensor, Tensor, Draws]


class TrainingImages(Dataset):
    """Fetch batches by the positions of a `ResumableSampler`, with the random numbers of their images.

    Random crops and the policy are so functions of (seed, epoch, image), in whichever process.

    Args:
        data: Gives a uint8 image (C, H, W) and its label by index.
        seed: The run's.
        policy: Applied to each uint8 image, or None.
    """

    def __init__(self, data: Dataset, seed: int, policy: nn.Module | None = None) -> None:
        self.data, self.seed, self.policy = data, seed, policy

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, batch: tuple[int, list[int]]) -> tuple[Tensor, Tensor, Draws, int]:
        """Return what `__getitems__` does and the size for the images, of a batch of `SizedBatches`."""
        size, positions = batch
        return *self.__getitems__(positions), size

    def __getitems__(self, positions: list[int]) -> TrainingBatch:
        """Return uint8 images, (N, C, H, W), their labels, (N,), and random numbers for them."""
        where = torch.tensor(positions)
        indices = where % len(self)
        draws = Draws(self.seed, where // len(self), indices)
        if isinstance(self.data, InMemoryImages) and self.policy is None:
            return *self.data[indices], draws
        with keep_random_states():
            samples = [
                self._fetch(index, number)
                for index, number in zip(indices.tolist(), draws.library_seeds(), strict=True)
            ]
        return *collate(samples), draws

    def _fetch(self, index: int, number: int) -> tuple[Tensor, Any]:
        seed_libraries(number)
        image, label = cast(tuple[Tensor, Any], self.data[index])
        return image if self.policy is None else self.policy(image), label


def collate(samples: Sequence[tuple[Tensor, Any]]) -> tuple[Tensor, Tensor]:
    """Stack images and their labels as `default_collate` does, but images in the layout that they have.

    Decoders give all colours of a pixel, then the next pixel; reordering takes a tenth of the decoding time.
    """
    images, labels = map(list, zip(*samples, strict=True))
    if images[0].stride(0) == 1:
        by_pixel = default_collate([image.permute(1, 2, 0) for image in images])
        return by_pixel.permute(0, 3, 1, 2), default_collate(labels)
    return default_collate(images), default_collate(labels)
