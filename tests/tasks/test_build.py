import errno
import sys
from datetime import timedelta

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mambavision_lab.errors import RunError
from mambavision_lab.files import configs_folder, list_choices
from mambavision_lab.tasks.build import build, build_optimizer

ADAMW = {"_target_": "torch.optim.adamw.AdamW", "_partial_": True, "lr": 1e-3}


@pytest.fixture
def make_part(make_module):
    """Make a module whose function `part` raises what an expression gives."""

    def make(error: str) -> dict[str, str]:
        make_module("raising.py", f"import errno\ndef part():\n    raise {error}\n")
        return {"_target_": "raising.part"}

    return make


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        ("ValueError('too\\nbig')", "x: too big"),
        ("KeyError('size')", "x: KeyError: 'size'"),
        ("AssertionError()", "x: AssertionError: AssertionError"),
        ("ModuleNotFoundError('No module named tensorboard')", "x needs tensorboard; install it"),
    ],
)
def test_whatever_a_constructor_raises_is_one_line(make_part, refusal, monkeypatch, error, wanted):
    monkeypatch.delitem(sys.modules, "raising", raising=False)
    node = OmegaConf.create(make_part(error))
    assert refusal(lambda: build(node, "x")).startswith(wanted)


def test_constructor_that_the_system_fails_is_no_mistake_of_the_config(make_part, monkeypatch):
    monkeypatch.delitem(sys.modules, "raising", raising=False)
    node = OmegaConf.create(make_part(f"OSError({errno.ENOSPC}, 'No space left')"))
    with pytest.raises(RunError, match="No space left; free some space"):
        build(node, "x")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"betas": [0.9, 1.5]}, "optimizer: Invalid beta parameter at index 1: 1.5"),
        ({"betas": [0.9]}, "optimizer: IndexError: "),
        ({"lr": -1}, "optimizer: Invalid learning rate: -1"),
        ({"foreach": True, "fused": True}, "optimizer: `fused` and `foreach` cannot be `True`"),
        ({"_partial_": False}, "optimizer: "),
        ({"_target_": "torch.optim.sgd.SGD", "nesterov": True}, "optimizer: Nesterov momentum"),
        ({"_target_": "torch.optim.Muon"}, "optimizer: Muon only supports 2D parameters"),
    ],
)
def test_values_that_an_optimizer_refuses_are_found_at_once(refusal, values, wanted):
    cfg = OmegaConf.create({"optimizer": ADAMW | values})
    assert refusal(lambda: build_optimizer(cfg, nn.Linear(2, 2))).startswith(wanted)


@pytest.mark.parametrize("choice", list_choices("optimizer"))
def test_every_optimizer_steps(choice):
    node = OmegaConf.load(configs_folder() / "optimizer" / f"{choice}.yaml")
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 3))
    optimizer = build_optimizer(OmegaConf.create({"optimizer": node}), net)(net.parameters())
    before = [parameter.clone() for parameter in net.parameters()]
    for _ in range(2):  # Muon's and LAMB's steps follow from the first gradients, too
        net(torch.ones(1, 1, 3, 3)).square().sum().backward()
        optimizer.step()
    assert not any(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))


def test_duration_is_made_of_text():
    node = OmegaConf.create(
        {
            "_target_": "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
            "train_time_interval": "00:00:30:00",
        }
    )
    assert repr(timedelta(minutes=30)) in build(node, "x").state_key


@pytest.mark.parametrize("name", list_choices("optimizer"))
def test_optimizers_of_the_group_take_a_network(name):
    node = OmegaConf.load(configs_folder() / "optimizer" / f"{name}.yaml")
    make = build_optimizer(OmegaConf.create({"optimizer": node}), nn.Linear(2, 2))
    assert make([{"params": [*nn.Linear(2, 2).parameters()]}]).defaults["lr"] == node.lr
