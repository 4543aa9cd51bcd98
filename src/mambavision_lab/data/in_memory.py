"""Images in memory as a data set."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.decode import squash


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

    def __getitem__(self, index: int | Tensor) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


def fit_images(
    images: np.ndarray | Tensor, labels: Any, image_size: int, in_chans: int
) -> InMemoryImages:
    """Make a data set of uint8 images (N, C, H, W), resized to image_size and converted to in_chans."""
    if isinstance(images, np.ndarray):
        images = np.require(images, requirements="W")  # torch warns of read-only memory
    fitted = squash(torch.as_tensor(images), image_size)
    if fitted.shape[1] != in_chans:
        to_channels = TF.rgb_to_grayscale if in_chans == 1 else TF.grayscale_to_rgb
        fitted = to_channels(fitted)
    return InMemoryImages(fitted.contiguous(), torch.tensor(np.asarray(labels)).long())
