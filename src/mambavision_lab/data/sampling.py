"""The order of the training images, as a function of seed and epoch."""

from collections.abc import Iterator
from itertools import islice

from torch.utils.data.distributed import DistributedSampler


class ResumableSampler(DistributedSampler):
    """Shuffle the images of one process by seed and epoch; a resumed run starts within an epoch.

    Its length is that of a whole epoch.
    """

    num_skipped = 0

    def start_at(self, epoch: int, num_skipped: int) -> None:
        """Let the first epoch be this one, without its first images.

        To be called before a loader is iterated: its workers fetch images before a Trainer sets the epoch.
        """
        self.epoch, self.num_skipped = epoch, num_skipped

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; another one than the first is sampled from its beginning."""
        if epoch != self.epoch:
            self.epoch, self.num_skipped = epoch, 0

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self.num_skipped, None)
