"""Metrics of several labels, against their definitions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.lit.image_metrics import make_metrics
from mambavision_lab.lit.losses import per_image
from mambavision_lab.lit.phase_metrics import has_counted, metrics_by_phase


class Given(nn.Module):
    """Gives its images' values as logits."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.scale * images.flatten(1)


def average_precision(scores, labels):
    order = np.argsort(-scores)
    right = labels[order].cumsum() / np.arange(1, len(labels) + 1)
    return (right * labels[order]).sum() / labels.sum()


def test_metrics_of_a_network_in_bfloat16_count_in_their_own_precision():
    module = nn.ModuleDict({"metrics": metrics_by_phase([], make_metrics), "net": Given()})
    module.to(torch.bfloat16)
    assert module["net"].scale.dtype == torch.bfloat16
    metrics = module["metrics"]["val"]
    for count in (256, 103):
        metrics["num_images"].update(count)
        metrics["loss"].update(torch.ones(count))
    assert metrics["num_images"].compute() == 359  # 360 in bfloat16
    assert metrics["loss"].compute() == 1


def test_several_labels_are_measured_by_map_and_f1(make_trainer):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, 1, 1, generator=generator)
    labels = (torch.rand(50, 3, generator=generator) < 0.4).long()
    classifier = ImageClassifier(Given(), num_classes=3, is_multilabel=True)
    loader = DataLoader(TensorDataset(logits, labels), batch_size=16)
    (found,) = make_trainer().test(classifier, loader, verbose=False)
    scores, truth = logits.flatten(1).numpy(), labels.numpy()
    predicted = scores > 0
    f1 = [
        2 * (predicted & truth)[:, k].sum() / (predicted[:, k].sum() + truth[:, k].sum())
        for k in range(3)
    ]
    assert found == pytest.approx(
        {
            "test/loss": per_image(logits.flatten(1), labels).mean().item(),
            "test/num_images": 50,
            "test/map": np.mean([average_precision(scores[:, k], truth[:, k]) for k in range(3)]),
            "test/f1_macro": np.mean(f1),
            "test/f1_micro": 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()),
        }
    )


def test_plain_loss_of_several_labels_is_the_mean_over_the_classes():
    logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 1]])
    p = logits.sigmoid()
    torch.testing.assert_close(per_image(logits, labels), -p.log().mean(1))


def test_metrics_that_keep_all_predictions_are_not_those_of_training():
    metrics = make_metrics(3, is_multilabel=True)
    assert set(metrics["fit"]) == {"loss", "num_images", "f1_macro", "f1_micro"}
    precision = metrics["val"]["map"]
    assert not has_counted(precision)
    precision.update(torch.zeros(2, 3), torch.ones(2, 3).long())
    assert has_counted(precision)
