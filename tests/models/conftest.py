import pytest
import torch
from toy_weights import make_toy


@pytest.fixture
def net():
    """A network whose every entry differs from a fresh one's."""
    net = make_toy()
    for key, x in net.state_dict().items():
        x.copy_(
            torch.randint(3, 9, ()) if key.endswith("num_batches_tracked") else torch.rand(x.shape)
        )
    return net
