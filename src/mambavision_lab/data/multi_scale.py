"""Train on images of several sizes: the size of each batch, as a function of seed, epoch and batch.

The loader gives each batch the size that `ImageDataModule.prepare_batch` resizes it to, on the device and
before the augmentation. So it works for every data set, whatever its policy and workers, and all
processes take the same size at each step; files are decoded at `data.image_size`, which costs what it
always does.

Source: Touvron et al. 2019, arXiv:1906.06423 (the size of training and of evaluation); Tan and Le 2021,
arXiv:2104.00298 (progressive sizes).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mambavision_lab.data.sampling import ResumableSampler
from mambavision_lab.errors import ConfigError


class MultiScale:
    """Base: images of one of some sizes in each training batch.

    Args:
        sizes: Pixels per side.
        scale_batch: Whether batches of smaller images hold more of them, as many as have the pixels of a
            batch of the largest, and even as many as that is even; else all hold the same number.

    Raises:
        ConfigError: There is no size, or one that is no number of pixels.
    """

    def __init__(self, sizes: Sequence[int], *, scale_batch: bool = False) -> None:
        if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ConfigError(f"multi_scale.sizes={list(sizes)}: wanted numbers of pixels")
        self.sizes, self.scale_batch = list(sizes), scale_batch

    def sizes_in(self, seed: int, epoch: int, num_batches: int) -> list[int]:
        """Return the size of each batch of an epoch."""
        raise NotImplementedError

    def num_images(self, size: int, batch_size: int) -> int:
        """Return how many images of a size a batch has, where one of the largest has batch_size."""
        if not self.scale_batch:
            return batch_size
        num = batch_size * max(self.sizes) ** 2 // size**2
        return num if batch_size % 2 else num - num % 2  # so that images can be mixed in pairs

    def describe(self, image_size: int) -> str:
        """Name the sizes, and how many of the pixels of images of image_size an epoch has."""
        counts = [self.num_images(size, image_size**2) for size in self.sizes]
        pixels = sum(num * size**2 for num, size in zip(counts, self.sizes, strict=True))
        share = pixels / sum(counts) / image_size**2
        batches = ", more images in batches of smaller ones" if self.scale_batch else ""
        return (
            f"{', '.join(map(str, self.sizes))}{batches}; {share:.0%} of the pixels of {image_size}"
        )


class RandomSizes(MultiScale):
    """Take all sizes equally often, in random order; settings as in `MultiScale`."""

    def sizes_in(self, seed: int, epoch: int, num_batches: int) -> list[int]:
        """Return the size of each batch of an epoch: round after round of all sizes, each shuffled."""
        generator = np.random.default_rng([seed, epoch])
        num_rounds = -(-num_batches // len(self.sizes))
        order = [generator.permutation(self.sizes) for _ in range(num_rounds)]
        return np.concatenate(order).tolist()[:num_batches]


class ProgressiveSizes(MultiScale):
    """Go through the sizes in their order, each for as many epochs; all batches hold the same number.

    Args:
        sizes: Pixels per side, growing as a rule.
        epochs: Of the run.

    Raises:
        ConfigError: As in `MultiScale`, or there are more sizes than epochs.
    """

    def __init__(self, sizes: Sequence[int], *, epochs: int | None) -> None:
        super().__init__(sizes)
        if epochs is None or epochs < len(sizes):
            raise ConfigError(
                f"multi_scale.epochs={epochs}: wanted at least one for each of the {len(sizes)} sizes; set "
                "trainer.max_epochs, or give fewer sizes"
            )
        self.epochs = epochs

    def sizes_in(self, seed: int, epoch: int, num_batches: int) -> list[int]:
        """Return the size of each batch of an epoch: one and the same."""
        stage = epoch * len(self.sizes) // self.epochs
        return [self.sizes[min(stage, len(self.sizes) - 1)]] * num_batches


class SizedBatches(ResumableSampler):
    """Give batches of positions, each with the size of its images; a resumed run skips whole batches.

    Every epoch has the same number of batches, its length.

    Args:
        data: As in `ResumableSampler`.
        multi_scale: Chooses the sizes.
        batch_size: Images of a batch of the largest size.
        options: Those of `ResumableSampler`.

    Raises:
        ConfigError: The images do not suffice for a batch of each size, where these differ.
    """

    def __init__(self, data: Any, multi_scale: MultiScale, batch_size: int, **options: Any) -> None:
        super().__init__(data, **options)
        self.multi_scale, self.batch_size = multi_scale, batch_size
        sizes = multi_scale.sizes
        per_round = sum(multi_scale.num_images(size, batch_size) for size in sizes)
        if not multi_scale.scale_batch:
            self.num_batches = max(1, self.num_samples // batch_size)
        elif per_round <= self.num_samples:
            self.num_batches = len(sizes) * (self.num_samples // per_round)
        else:
            raise ConfigError(
                f"multi_scale.scale_batch=true: a batch of each size takes {per_round} images, and an epoch "
                f"has {self.num_samples} for each process; lower data.batch_size"
            )

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:  # type: ignore[override]
        positions, start = self.positions(), 0
        sizes = self.multi_scale.sizes_in(self.seed, self.epoch, self.num_batches)
        for index, size in enumerate(sizes):
            end = start + self.multi_scale.num_images(size, self.batch_size)
            if index >= self.num_skipped:
                yield size, positions[start:end]
            start = end
