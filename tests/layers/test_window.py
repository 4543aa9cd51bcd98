import pytest
import torch

from mambavision_lab.layers.window import cut_windows, join_windows


def windows_by_loops(x, rows, columns):
    """Each window as a list of tokens, read from a padded copy pixel by pixel."""
    n, c, height, width = x.shape
    down, across = -(-height // rows), -(-width // columns)
    padded = x.new_zeros(n, c, down * rows, across * columns)
    padded[:, :, :height, :width] = x
    found = []
    for image in padded:
        for top in range(0, down * rows, rows):
            for left in range(0, across * columns, columns):
                tokens = [image[:, top + i, left + j] for i in range(rows) for j in range(columns)]
                found.append(torch.stack(tokens))
    return torch.stack(found)


@pytest.mark.parametrize("window", [(4, 4), (3, 3), (7, 7), (2, 5), (1, 1)])
@pytest.mark.parametrize("size", [(4, 8), (5, 3), (1, 1)])
def test_windows_are_cut_row_by_row_and_joined_again(window, size):
    x = torch.randn(2, 3, *size)
    tokens = cut_windows(x, window)
    assert torch.equal(tokens, windows_by_loops(x, *window))
    assert torch.equal(join_windows(tokens, window, size), x)


def test_windows_of_a_channels_last_map_are_the_same():
    x = torch.randn(2, 3, 5, 6)
    tokens = cut_windows(x.to(memory_format=torch.channels_last), (4, 4))
    assert torch.equal(tokens, cut_windows(x, (4, 4)))
