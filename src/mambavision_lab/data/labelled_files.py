"""Files with labels as a data set; a subclass reads them."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mambavision_lab.data.splits import Items


class LabelledFiles(Dataset):
    """Base of the data sets of files: what is there, and its labels.

    Args:
        items: Where each is read from, and its label: one, or a tuple of any number.
        num_classes: Where there is any number of labels, which are given as 0 or 1 for each class.
    """

    def __init__(self, items: Items, num_classes: int | None = None) -> None:
        self.items, self.num_classes = items, num_classes

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labels(self) -> Tensor:
        """Class of each, (N,), or 0 or 1 for each of its classes, (N, num_classes)."""
        if self.num_classes is None:
            return torch.tensor([label for _, label in self.items])
        return torch.stack([torch.as_tensor(self.label(k)) for k in range(len(self))])

    def label(self, index: int) -> int | Tensor:
        """Return the class of one, or 0 or 1 for each of its classes, (num_classes,), int64."""
        _, label = self.items[index]
        if self.num_classes is None:
            return label
        found = torch.zeros(self.num_classes, dtype=torch.long)
        found[list(label)] = 1
        return found
