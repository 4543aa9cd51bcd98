"""Batches of images in memory, several of which are fetched and prepared at once.

A small batch takes nearly as long as a large one: what costs is the number of calls, not that of pixels.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

# Of one image. torch adds up those of 2**15 and more in parts, as many as there are threads to spare, so that
# its mean would depend on its batch.
MAX_VALUES = 2**14
_NUM_IMAGES = 256  # so many are prepared at once, in whole batches,


class PreparedBatch:
    """A training batch that is the network's input already.

    It is no tuple, so that a Trainer leaves its tensors as they are.

    Args:
        images: Normalised, float32, (N, C, H, W).
        labels: As `ImageDataModule.prepare_batch` gives them.
        indices: Of the images in their split, (N,).
    """

    def __init__(self, images: Tensor, labels: Tensor, indices: np.ndarray) -> None:
        self.images, self.labels, self.indices = images, labels, indices


def prepare_ahead(
    loader: DataLoader, prepare: Callable[[Any], tuple[Tensor, Tensor]]
) -> Iterator[PreparedBatch]:
    """Give the batches of a loader of `TrainingImages` that lie in memory.

    Args:
        loader: Its data and order are taken, not its workers.
        prepare: From uint8 images, labels and random numbers to the network's input, each image by itself.
    """
    data: Any = loader.dataset
    num_batches = _NUM_IMAGES // (loader.batch_size or 1)
    batches = iter(loader.batch_sampler or ())
    while several := list(islice(batches, max(1, num_batches))):
        fetched = data.__getitems__([position for positions in several for position in positions])
        images, labels = prepare(fetched)
        sizes = [len(positions) for positions in several]
        indices = np.split(fetched[2].indices, np.cumsum(sizes)[:-1])
        yield from map(PreparedBatch, images.split(sizes), labels.split(sizes), indices)
