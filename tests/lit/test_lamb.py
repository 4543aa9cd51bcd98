"""optimizer=lamb steps as timm's recipe does."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from timm.optim import create_optimizer_v2
from tolerances import assert_close

from mambavision_lab.files import configs_folder
from mambavision_lab.lit.training_module import param_groups


def stepped(net, make):
    """Weights after three steps with given gradients."""
    optimizer = make(net)
    for step in range(3):
        for i, p in enumerate(net.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * i + step))
        optimizer.step()
    return {name: p.detach() for name, p in net.named_parameters()}


def test_lamb_of_the_config_steps_as_timms(make_net):
    node = OmegaConf.load(configs_folder() / "optimizer" / "lamb.yaml")
    nets = [make_net(), make_net()]
    nets[1].load_state_dict(nets[0].state_dict())
    options = {"lr": 5e-3, "weight_decay": 0.05, "betas": (0.9, 0.999)}
    ours = stepped(nets[0], lambda net: instantiate(node)(param_groups(net, node.weight_decay)))
    timms = stepped(nets[1], lambda net: create_optimizer_v2(net, opt="lamb", **options))
    assert_equal = {name: torch.equal(value, timms[name]) for name, value in ours.items()}
    assert all(assert_equal.values())


def test_lamb_steps_by_the_ratio_of_weight_and_update(make_net):
    node = OmegaConf.load(configs_folder() / "optimizer" / "lamb.yaml")
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = instantiate(node)([{"params": [weight], "weight_decay": 0.05}], lr=0.1)
    weight.grad = torch.tensor([[0.3, -0.4]])
    optimizer.step()
    # Adam's first update is the gradient's sign; decay is added before the ratio |weight| / |update|.
    update = torch.tensor([[1.0, -1.0]]) + 0.05 * torch.tensor([[3.0, 4.0]])
    expected = torch.tensor([[3.0, 4.0]]) - 0.1 * 5.0 / update.norm() * update
    assert_close(weight.detach(), expected, torch.float32)


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_lamb_divides_gradients_by_their_norm_where_that_is_above_one(size):
    node = OmegaConf.load(configs_folder() / "optimizer" / "lamb.yaml")
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = instantiate(node)([{"params": [weight]}])
    for gradient in ([[0.6, 0.8]], [[0.0, 0.1]]):
        weight.grad = size * torch.tensor(gradient)
        optimizer.step()
    moments = optimizer.state[weight]["exp_avg"]
    first, second = torch.tensor([[0.06, 0.08]]), torch.tensor([[0.0, min(1.0, 0.1 * size)]])
    assert_close(moments, 0.9 * first + 0.1 * second, torch.float32)
