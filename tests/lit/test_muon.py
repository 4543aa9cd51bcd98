"""Muon for matrices, AdamW for the rest."""

import torch
from timm.optim.muon import Muon
from tolerances import assert_close
from torch.optim import AdamW

from mambavision_lab.lit.muon import muon


def stepped(make, net):
    """Parameters after two steps with given gradients, by name."""
    named = {name: torch.nn.Parameter(p.detach().clone()) for name, p in net.named_parameters()}
    optimizer = make(named)
    for step in range(2):
        for i, p in enumerate(named.values()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * i + step))
        optimizer.step()
    return named


def test_muon_leaves_what_does_not_decay_to_adamw(make_net):
    net = make_net()
    no_decay = net.no_weight_decay()

    def split(named):
        decays = {name: p.ndim >= 2 and name not in no_decay for name, p in named.items()}
        return [
            {"params": [p for n, p in named.items() if not decays[n]], "weight_decay": 0.0},
            {"params": [p for n, p in named.items() if decays[n]], "weight_decay": 0.1},
        ]

    options = {"lr": 0.01, "betas": (0.9, 0.95)}
    actual = stepped(lambda named: muon(split(named), **options, nesterov=False), net)
    adamw = stepped(lambda named: AdamW(split(named), **options), net)
    timms = stepped(lambda named: Muon(named.values(), **options, weight_decay=0.1), net)
    assert {"blocks.0.mixer.A_log", "pos_embed"} <= no_decay
    for name, p in actual.items():
        decays = p.ndim >= 2 and name not in no_decay
        assert_close(p, (timms if decays else adamw)[name], torch.float32)
    name = "blocks.0.mixer.in_proj.weight"
    assert not torch.allclose(actual[name], adamw[name], rtol=1e-2)
