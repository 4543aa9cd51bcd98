"""Image files as a data set, and the transforms that bring files of any size to the network's."""

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from mambavision_lab.data.decode import decode

Items = list[tuple[str, int]]  # paths and labels


class ImageFiles(Dataset):
    """Image files, each decoded and transformed when it is read.

    Args:
        items: Paths and labels.
        in_chans: 1 for grey, 3 for colour.
        transform: From a uint8 image (C, H, W) to one of the network's size.
    """

    def __init__(self, items: Items, in_chans: int, transform: v2.Transform) -> None:
        self.items, self.in_chans, self.transform = items, in_chans, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        return self.transform(decode(path, self.in_chans)), label


def evaluation_transform(image_size: int) -> v2.Transform:
    """Resize the shorter side to 8/7 of image_size (256 at 224) and take the centre."""
    return v2.Compose(
        [v2.Resize(round(image_size * 8 / 7), antialias=True), v2.CenterCrop(image_size)]
    )


def training_transform(image_size: int, crop_scale: Sequence[float] | None) -> v2.Transform:
    """Crop a random part of the image, or take its centre where crop_scale is None.

    Args:
        image_size: Pixels per side.
        crop_scale: Smallest and largest share of the image's area.
    """
    if crop_scale is None:
        return evaluation_transform(image_size)
    return v2.RandomResizedCrop(image_size, scale=tuple(crop_scale), antialias=True)
