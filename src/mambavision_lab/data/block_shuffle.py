"""An order of the training images for data that are read in blocks, such as the row groups of parquet files.

The blocks are permuted and joined to windows, and the images shuffled within each window. The result is cut
into a fixed number of streams of equal length, and batches are taken from these in turn. So a loader's
worker, which takes every num_workers-th batch, reads streams of its own where their number is a multiple of
num_workers, and of each a window at a time; and the order is the same for any number of workers.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from mambavision_lab.data.row_groups import NUM_STREAMS, WINDOW_ROWS


class BlockShuffle:
    """Shuffle images so that those of a block come close to each other.

    Args:
        blocks: Number of the block that each image is in, from 0.
        per_batch: Images that all processes take at a time.
    """

    def __init__(self, blocks: Sequence[int], per_batch: int) -> None:
        self.blocks, self.per_batch = torch.as_tensor(blocks), per_batch

    def __call__(self, generator: Generator) -> Tensor:
        """Return the indices of all images, each once."""
        sizes = self.blocks.bincount()
        permuted = torch.randperm(len(sizes), generator=generator)
        windows = torch.empty_like(sizes)
        starts = sizes[permuted].cumsum(0) - sizes[permuted]
        windows[permuted] = starts // WINDOW_ROWS
        indices = torch.randperm(len(self.blocks), generator=generator)
        indices = indices[windows[self.blocks[indices]].argsort(stable=True)]
        num_turns = len(indices) // (NUM_STREAMS * self.per_batch)
        streams, rest = indices.tensor_split([num_turns * NUM_STREAMS * self.per_batch])
        batches = streams.reshape(NUM_STREAMS, num_turns, self.per_batch)
        return torch.cat([batches.transpose(0, 1).flatten(), rest])
