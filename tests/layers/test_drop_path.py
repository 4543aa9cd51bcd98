import pytest
import torch

from mambavision_lab.layers.drop_path import DropPath


@pytest.mark.parametrize("shape", [(400, 3), (400, 2, 5), (400, 2, 3, 1)])
def test_drop_path_drops_whole_samples_and_keeps_the_mean(shape):
    x = torch.rand(shape) + 1
    y = DropPath(0.25)(x)
    dropped = (y == 0).flatten(1).all(1)
    assert 60 < dropped.sum() < 140
    torch.testing.assert_close(y[~dropped], x[~dropped] / 0.75)
    assert torch.equal(DropPath(0.25).eval()(x), x)
