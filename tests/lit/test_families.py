"""Every family and baseline through the same classifier: it learns, and every parameter takes part."""

import functools

import pytest
import torch
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision
from mambavision_lab.models.timm_classifier import timm_classifier

TOYS = {
    "plain": lambda: PlainMambaVision(**{**TOY_OPTIONS, "in_chans": 3, "image_size": 32}),
    "plain, bidirectional": lambda: PlainMambaVision(
        **{**TOY_OPTIONS, "in_chans": 3, "image_size": 32, "bidirectional": True}
    ),
    "hierarchical": lambda: MambaVision(**HIERARCHICAL_TOY),
    "hierarchical, layer scale": lambda: MambaVision(**HIERARCHICAL_TOY, layer_scale=0.1),
}
NETWORKS = TOYS | {
    "vit": lambda: timm_classifier(name="vit_tiny_patch16_224", num_classes=3, image_size=32),
    "resnet": lambda: timm_classifier(name="resnet18", num_classes=3, image_size=32),
    "any of timm's": lambda: timm_classifier(name="convnext_atto", num_classes=3, image_size=32),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("vit", "resnet") else [])
        for name in NETWORKS
    ],
)
def test_loss_falls_and_every_parameter_gets_a_finite_gradient(
    name, make_classifier, make_loader, make_trainer, history
):
    lr = 1e-2 if name in TOYS else 5e-4
    adamw = functools.partial(torch.optim.AdamW, lr=lr)
    classifier = make_classifier(NETWORKS[name](), optimizer=adamw)
    loader = make_loader(num_images=12, batch_size=6, shape=(3, 32, 32))
    make_trainer(max_epochs=10, logger=history).fit(classifier, loader)
    losses = history["train/loss"]
    assert losses[-1] < 0.8 * losses[0]
    x, labels = next(iter(loader))
    classifier.net.zero_grad()
    torch.nn.functional.cross_entropy(classifier.net(x), labels).backward()
    without = [n for n, p in classifier.net.named_parameters() if p.grad is None]
    assert not without
    assert all(p.grad.isfinite().all() for p in classifier.net.parameters())
