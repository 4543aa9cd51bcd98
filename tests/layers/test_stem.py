import math

import pytest
import torch
from tolerances import assert_close
from torch import nn

from mambavision_lab.layers.stem import PATCH_SIZES, STRIDES, ConvStem


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_stem_makes_one_token_per_patch(patch_size):
    stem = ConvStem(3, 4, 10, patch_size).eval()
    assert math.prod(STRIDES[patch_size]) == patch_size
    x = torch.randn(2, 3, 12 * patch_size, 14 * patch_size)
    y = stem(x)
    assert y.shape == (2, 10, 12, 14)
    # Away from the borders a shift of the image by one patch is a shift of the map by one token.
    moved = stem(x.roll((patch_size, 2 * patch_size), dims=(2, 3)))
    inner = (..., slice(6, -4), slice(6, -4))
    assert_close(moved[inner], y.roll((1, 2), dims=(2, 3))[inner], torch.float32)
    assert y[inner].std() > 1e-2


def test_stem_weights_do_not_depend_on_patch_size():
    shapes = [
        {name: x.shape for name, x in ConvStem(3, 4, 10, patch_size).state_dict().items()}
        for patch_size in PATCH_SIZES
    ]
    assert all(other == shapes[0] for other in shapes)
    convs = [layer for layer in ConvStem(3, 4, 10, 16) if isinstance(layer, nn.Conv2d)]
    assert [tuple(conv.weight.shape) for conv in convs] == [
        (4, 3, 3, 3),
        (4, 4, 3, 3),
        (8, 4, 3, 3),
        (10, 8, 3, 3),
    ]
    assert [conv.bias is not None for conv in convs] == [False, False, False, True]


@pytest.mark.parametrize("patch_size", [0, 3, 7, 32])
def test_stem_refuses_other_patch_sizes(patch_size):
    with pytest.raises(
        ValueError, match=rf"patch_size={patch_size} is not possible; choose .*16, 8"
    ):
        ConvStem(3, 4, 10, patch_size)
