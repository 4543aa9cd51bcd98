"""The two-layer perceptron that each block applies to every token."""

from torch import Tensor, nn

from mambavision_lab.layers.checks import check_counts


class Mlp(nn.Sequential):
    """Linear, GELU, dropout, linear, dropout.

    Args:
        dim: Channels in and out.
        hidden: Channels between.
        drop: Dropout rate after either layer.
    """

    def __init__(self, dim: int, hidden: int, *, drop: float = 0.0) -> None:
        super().__init__()
        check_counts(dim=dim, hidden=hidden)
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop2 = nn.Dropout(drop)

    def resize(self, hidden: int) -> None:
        """Make fresh layers for another number of channels between."""
        check_counts(hidden=hidden)
        self.fc1 = nn.Linear(self.fc1.in_features, hidden)
        self.fc2 = nn.Linear(hidden, self.fc2.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of x, (..., dim); the shape stays."""
        return super().forward(x)
