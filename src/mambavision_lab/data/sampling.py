"""The order of the training images, as a function of seed and epoch.

A sampler gives positions, `round x number of images + index`, not indices: each time that an image is given
counts as a round of its own, from which its augmentation follows (see `training_images.py`). The
loader's workers, which outlive the epochs, are so told the epoch with each image.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data.distributed import DistributedSampler


class ResumableSampler(DistributedSampler):
    """Shuffle the images of one process by seed and epoch; a resumed run starts within an epoch.

    Its length is that of a whole epoch.

    Args:
        data: The images; only their number counts.
        labels: Class of each image, to give each class equally often, or None.
        repeats: How often each image is given, one after the other, in a repeats-th of the images
            (repeated augmentation: each is augmented anew).
        shuffle: From a random generator to the indices of all images; None is a random permutation.
        options: Those of `DistributedSampler`: num_replicas, rank, seed.

    Source: Hoffer et al. 2019, arXiv:1901.09335 (repeated augmentation).
    """

    def __init__(
        self,
        data: Any,
        *,
        labels: Sequence[int] | Tensor | None = None,
        repeats: int = 1,
        shuffle: Callable[[Generator], Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(data, shuffle=True, drop_last=True, **options)
        self.repeats, self.shuffle_indices = repeats, shuffle
        self.num_skipped = 0
        self._members: list[Tensor] = []
        if labels is not None:
            given = torch.as_tensor(labels)
            self._members = [(given == label).nonzero().flatten() for label in given.unique()]
        # Odd, so that an image that is mirrored every other round is mirrored every other epoch.
        self.rounds_per_epoch = repeats * self._most_often() | 1

    def start_at(self, epoch: int, num_skipped: int) -> None:
        """Let the first epoch be this one, without the first that it gives.

        To be called before a loader is iterated: its workers fetch images before a Trainer sets the epoch.
        """
        self.epoch, self.num_skipped = epoch, num_skipped

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; another one than the first is sampled from its beginning."""
        if epoch != self.epoch:
            self.epoch, self.num_skipped = epoch, 0

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions()[self.num_skipped :])

    def positions(self) -> list[int]:
        """Return the positions of the whole epoch."""
        num_images = len(self.dataset)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        if self._members:
            indices, times = self._balanced(num_images, generator)
        else:
            if self.shuffle_indices is None:
                indices = torch.randperm(num_images, generator=generator)
            else:
                indices = self.shuffle_indices(generator)
            times = torch.zeros_like(indices)
        rounds = self.epoch * self.rounds_per_epoch + times * self.repeats
        repeated = rounds[:, None] + torch.arange(self.repeats)
        positions = (repeated * num_images + indices[:, None]).flatten()
        return positions[self.rank : self.total_size : self.num_replicas].tolist()

    def _most_often(self) -> int:
        """Count how often the image that is given most often is, before it is repeated."""
        if not self._members:
            return 1
        share = -(-len(self.dataset) // len(self._members))  # type: ignore[arg-type]
        return -(-share // min(len(members) for members in self._members))

    def _balanced(self, num_images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample indices with equally many of each class, and how often each was sampled before."""
        classes = torch.arange(num_images) % len(self._members)
        classes = classes[torch.randperm(num_images, generator=generator)]
        indices, times = torch.empty_like(classes), torch.empty_like(classes)
        for label, members in enumerate(self._members):
            places = (classes == label).nonzero().flatten()
            num_turns = -(-len(places) // len(members))
            turns = [
                members[torch.randperm(len(members), generator=generator)] for _ in range(num_turns)
            ]
            indices[places] = torch.cat(turns or [members])[: len(places)]
            times[places] = torch.arange(len(places)) // len(members)
        return indices, times
