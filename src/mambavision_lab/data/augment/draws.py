"""Random numbers of each image, as a function of the run's seed, the epoch and the image's index alone.

No generator has a state that would have to be restored: whatever the number of workers or processes, and
wherever a run is resumed, an image meets the same numbers. They come from hashing counters.

Source: Steele et al. 2014, "Fast splittable pseudorandom number generators" (SplitMix64's finaliser);
counters in place of a state as in Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

_INCREMENT = 0x9E3779B97F4A7C15


class Draws:
    """Random numbers for a batch of images, on the CPU.

    Each call draws anew; two objects made of the same numbers draw the same in the same order.

    Args:
        seed: The run's seed.
        epoch: Counted from 0; one, or one of each image, (N,), int64.
        indices: Of the images in their data set, (N,), int64.
    """

    def __init__(self, seed: int, epoch: int | Tensor, indices: Tensor) -> None:
        self._seed, self._epochs = seed, np.asarray(epoch).astype(np.uint64)
        self._indices = indices.cpu().numpy().astype(np.uint64)
        self._keys = _mix(_mix(self._indices + np.uint64(_start(seed))) + self._epochs)
        self._num_drawn = 0

    @classmethod
    def unseeded(cls, num: int) -> "Draws":
        """Make draws for num images from torch's own random state."""
        return cls(int(torch.randint(2**31, ())), 0, torch.arange(num))

    @property
    def indices(self) -> np.ndarray:
        """Indices of the images in their data set, (N,)."""
        return self._indices

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw a number in [low, high) for each image, (N,), float32."""
        bits = self._hashed() >> np.uint64(40)  # the 24 that a float32 holds
        return torch.from_numpy((low + (high - low) * 2.0**-24 * bits).astype(np.float32))

    def integers(self, low: int, high: int) -> Tensor:
        """Draw a whole number from low to high, both possible, for each image, (N,), int64."""
        scaled = (self._hashed() >> np.uint64(32)) * np.uint64(high - low + 1) >> np.uint64(32)
        return low + torch.from_numpy(scaled.astype(np.int64))

    def alternating(self) -> Tensor:
        """Return whether it is an image's turn, (N,): every second epoch, half of the images in each."""
        keys = _mix(self._indices + np.uint64(_start(self._seed, "alternating")))
        return torch.from_numpy((keys + self._epochs) % np.uint64(2) == 0)

    def generator(self, index: int, device: torch.device) -> torch.Generator:
        """Make a generator for one image of the batch, for draws of many numbers on a device."""
        return torch.Generator(device).manual_seed(int(self._keys[index] >> np.uint64(1)))

    def library_seeds(self) -> list[int]:
        """Draw a seed for each image, for `seed_libraries`."""
        return (self._hashed() >> np.uint64(1)).tolist()

    @contextmanager
    def seed_libraries(self) -> Iterator[None]:
        """Let the random states of torch, numpy and Python follow from the first image, within a block."""
        number = self.library_seeds()[0]
        with keep_random_states():
            seed_libraries(number)
            yield

    def _hashed(self) -> np.ndarray:
        self._num_drawn += 1
        return _mix(self._keys + np.uint64(self._num_drawn * _INCREMENT % 2**64))


@contextmanager
def keep_random_states() -> Iterator[None]:
    """Put the random states of torch, numpy and Python back after a block."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def seed_libraries(number: int) -> None:
    """Seed torch on the CPU, numpy and Python: for transforms of libraries, which take no generator."""
    torch.default_generator.manual_seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    random.seed(number)


def _start(*numbers: int | str) -> int:
    """Mix numbers into one of 63 bits."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _mix(x: np.ndarray) -> np.ndarray:
    """Scramble uint64 numbers, one to one."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
