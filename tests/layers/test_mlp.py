import torch
from tolerances import assert_close

from mambavision_lab.layers.mlp import Mlp


def test_mlp_matches_formula():
    mlp, x = Mlp(4, 6), torch.randn(2, 3, 4)
    hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    assert_close(mlp(x), hidden @ mlp.fc2.weight.T + mlp.fc2.bias, torch.float32)


def test_mlp_drops_in_training_only():
    mlp, x = Mlp(4, 6, drop=0.5), torch.randn(50, 4)
    assert (mlp(x) == 0).sum() > 40
    assert torch.equal(mlp.eval()(x), mlp(x))
