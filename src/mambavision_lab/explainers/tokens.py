"""Where the tokens of a block lie in the image: one sequence, windows, or behind a class token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mambavision_lab.layers.scan_order import ScanOrder
from mambavision_lab.layers.window import cut_windows, join_windows


@dataclass(frozen=True)
class TokenLayout:
    """Sequences of tokens as parts of a map.

    Attributes:
        grid: Sides of the map without padding: rows and columns, of volumes slices before them.
        window: Sides of the tokens in one sequence.
        num_prefix: Tokens in front of those of the map, such as a class token; then there is one sequence.
        order: Of the tokens in a sequence.
        shift: Rows and columns by which the map is rolled up and left before it is cut (Swin).
    """

    grid: tuple[int, ...]
    window: tuple[int, ...]
    num_prefix: int = 0
    order: ScanOrder = "plain"
    shift: tuple[int, int] = (0, 0)

    def to_grid(self, values: Tensor) -> Tensor:
        """Turn a value per token (sequences, length) into a map of the grid's sides, without padding."""
        tokens = values[:, self.num_prefix :, None]
        joined = join_windows(tokens, self.window, self.grid, self.order)[0, 0]
        return joined.roll(self.shift, (-2, -1))

    def from_grid(self, values: Tensor) -> Tensor:
        """Turn a map of the grid's sides into a value per token (sequences, length); padding gets 0."""
        rolled = values.roll([-s for s in self.shift], (-2, -1))
        tokens = cut_windows(rolled[None, None], self.window, self.order)[..., 0]
        return torch.cat([tokens.new_zeros(len(tokens), self.num_prefix), tokens], dim=1)

    def is_padding(self) -> Tensor:
        """Return which tokens (sequences, length) pad the map to whole windows."""
        is_real = self.from_grid(torch.ones(self.grid)) > 0
        is_real[:, : self.num_prefix] = True
        return ~is_real

    def find(self, *place: int) -> tuple[int, int]:
        """Return the sequence and the position in it of the token at a place of the map."""
        marked = torch.zeros(self.grid)
        marked[place] = 1
        sequence, position = self.from_grid(marked).nonzero()[0].tolist()
        return sequence, position
