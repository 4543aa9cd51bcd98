"""Images in memory as a data set."""

from torch import Tensor
from torch.utils.data import Dataset


class InMemoryImages(Dataset):
    """Images held as one uint8 tensor and fetched a batch at a time.

    Args:
        images: uint8, (N, C, H, W).
        labels: int64, (N,).
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]
