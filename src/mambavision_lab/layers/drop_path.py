"""Stochastic depth: samples skip a residual branch at random.

Source: Huang et al. 2016, arXiv:1603.09382.
"""

from torch import Tensor, nn

from mambavision_lab.layers.checks import check_rates


class DropPath(nn.Module):
    """Zero the whole branch of a sample with a probability, and scale the others up, in training only.

    Args:
        drop_prob: That probability.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        check_rates(drop_prob=drop_prob)
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Drop samples, the first axis of x."""
        if not self.training:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        """Return the rate, for printing."""
        return f"drop_prob={self.drop_prob:0.3f}"
