import functools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.lit.callbacks.grad_norm import GradientNorm


@pytest.mark.parametrize(
    ("norm_type", "expected"),
    [
        # Weights of zero give both classes the probability 1/2. Of an image (3, 4) with label 0 the
        # gradients are then (-1.5, -2) and (1.5, 2) in the weight, and (-0.5, 0.5) in the bias.
        (2.0, 13**0.5),
        (1.0, 8.0),
        (float("inf"), 2.0),
    ],
)
def test_gradient_norm_is_that_before_clipping(
    make_classifier, make_trainer, history, norm_type, expected
):
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    image = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    loader = DataLoader(TensorDataset(image, torch.tensor([0])))
    classifier = make_classifier(
        net, num_classes=2, optimizer=functools.partial(torch.optim.SGD, lr=0.1)
    )
    make_trainer(
        max_epochs=1, logger=history, callbacks=[GradientNorm(norm_type)], gradient_clip_val=0.01
    ).fit(classifier, loader)
    assert history["train/grad_norm"] == [pytest.approx(expected)]
