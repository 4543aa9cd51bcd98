"""The average as a teacher: what it adds to the loss, and when."""

import pytest
import torch
from lightning.pytorch import Callback

from mambavision_lab.lit.callbacks.mesa import MESA
from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.lit.losses import CrossEntropy, divergence


class Losses(Callback):
    """Record each step's loss beside what it is to be."""

    def __init__(self, mesa):
        self.mesa, self.found, self.plain, self.added = mesa, [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        images, labels = batch
        with torch.no_grad():
            logits, wanted = pl_module(images), self.mesa.average(images)
        self.plain.append(CrossEntropy()(logits, labels, images).item())
        self.added.append(divergence(logits, wanted).item())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.found.append(outputs["loss"].item())


@pytest.fixture
def make(make_net):
    return lambda: ImageClassifier(
        make_net(drop_path_rate=0.0),
        num_classes=3,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
    )


def test_mesa_adds_the_divergence_from_the_average_after_its_start(make, make_loader, make_trainer):
    mesa = MESA(0.9, weight=2.0, start=0.5)
    losses, classifier = Losses(mesa), make()
    trainer = make_trainer(max_epochs=2, callbacks=[mesa, losses])
    trainer.fit(classifier, make_loader(), make_loader())
    weights = [0, 0, 0, 2, 2, 2]
    terms = zip(losses.plain, weights, losses.added, strict=True)
    assert losses.found == pytest.approx([plain + w * add for plain, w, add in terms], abs=1e-5)
    assert min(losses.added[3:]) > 1e-6
    assert not classifier.loss._forward_hooks


@pytest.mark.parametrize(
    ("options", "message"), [({"weight": 0.0}, "weight=0.0"), ({"start": 1.0}, "start=1.0")]
)
def test_mesa_refuses(options, message, refusal):
    assert message in refusal(lambda: MESA(**options))


def test_mesa_refuses_a_run_without_an_end(make, make_loader, make_trainer, refusal):
    trainer = make_trainer(max_epochs=-1, callbacks=[MESA()])
    assert "length is unknown" in refusal(lambda: trainer.fit(make(), make_loader()))
