"""A validation or test whose loss is not finite ends the run."""

import functools

import pytest
import torch
from torch import nn

from mambavision_lab.errors import ConfigError


@pytest.fixture
def make_spoilt(make_classifier):
    """Make a classifier whose logits become NaN after some calls of its network."""

    def make(num_good: int):
        net = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
        calls = []

        def spoil(module, args, logits):
            calls.append(None)
            return logits * torch.nan if len(calls) > num_good else logits

        net.register_forward_hook(spoil)
        return make_classifier(net, optimizer=functools.partial(torch.optim.SGD, lr=0.25))

    return make


@pytest.mark.parametrize(
    ("phase", "wanted"),
    [
        ("validate", "^val/loss is nan; look for NaN in the weights"),
        ("test", "^test/loss is nan; look for NaN in the weights"),
    ],
)
def test_evaluation_fails_where_the_loss_is_not_finite(
    make_spoilt, make_loader, make_trainer, phase, wanted
):
    with pytest.raises(ConfigError, match=wanted):
        getattr(make_trainer(), phase)(make_spoilt(1), make_loader(shape=(2, 2, 2)), verbose=False)


def test_run_whose_final_test_is_not_finite_has_failed(make_spoilt, make_loader, make_trainer):
    loader = make_loader(num_images=8, shape=(2, 2, 2))  # 2 batches
    trainer, module = make_trainer(max_epochs=1), make_spoilt(2)
    trainer.fit(module, loader)
    with pytest.raises(FloatingPointError, match=r"^test/loss is nan"):
        trainer.test(module, loader, verbose=False)


# In its first epoch the config is to blame, later the run has failed.
@pytest.mark.parametrize(
    ("num_good", "kind", "where"),
    [(3, ConfigError, "epoch 1, step 2"), (7, FloatingPointError, "epoch 2, step 4")],
)
def test_fit_stops_where_the_validation_alone_is_not_finite(
    make_spoilt, make_loader, make_trainer, num_good, kind, where
):
    loader = make_loader(num_images=8, shape=(2, 2, 2))  # 2 batches
    with pytest.raises(kind, match=rf"^val/loss in {where} is nan; lower"):
        make_trainer(max_epochs=2).fit(make_spoilt(num_good), loader, loader)
