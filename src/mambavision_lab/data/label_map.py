"""Number the labels of data as a network does that was trained on other data."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mambavision_lab.errors import ConfigError


class LabelMap:
    """From the classes of data to those of a network.

    Args:
        own: Names of the classes of the data.
        known: Those that the network was trained on.

    Raises:
        ConfigError: The data have a class that the network does not know.
    """

    def __init__(self, own: Sequence[str], known: Sequence[str]) -> None:
        if unknown := [name for name in own if name not in known]:
            raise ConfigError(
                f"the data have {len(unknown)} classes that the network does not know: {unknown[:5]}; "
                f"it knows {len(known)}: {list(known)[:5]} ..."
            )
        self.numbers = torch.tensor([list(known).index(name) for name in own])
        self.num_known = len(known)

    def __call__(self, labels: Tensor) -> Tensor:
        """Renumber labels (N,) or masks (N, H, W); 0 or 1 for each class to (N, num_known)."""
        numbers = self.numbers.to(labels.device)
        if labels.ndim != 2:
            return numbers[labels]
        return labels.new_zeros(len(labels), self.num_known).index_copy_(1, numbers, labels)
