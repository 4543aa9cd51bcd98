"""Image files as a data set."""

from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from mambavision_lab.data.decode import decode

Items = list[tuple[str, int]]


class ImageFiles(Dataset):
    """Image files, decoded and brought to one size when asked for.

    Args:
        items: Paths and labels.
        in_chans: 1 for grey, 3 for colour.
        transform: From a uint8 image (C, H, W) to one of the wanted size.
    """

    def __init__(self, items: Items, in_chans: int, transform: v2.Transform) -> None:
        self.items, self.in_chans, self.transform = items, in_chans, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        return self.transform(decode(path, self.in_chans)), label
