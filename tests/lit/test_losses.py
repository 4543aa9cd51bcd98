from copy import deepcopy

import pytest
import torch
from timm.loss import BinaryCrossEntropy as TimmBinaryCrossEntropy
from torch import nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Distillation,
    balance_classes,
    check_teachers,
    divergence,
)

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
LABELS = torch.tensor([0, 2])
IMAGES = torch.zeros(2, 1, 4, 4)


def test_cross_entropy_of_labels_and_of_shares_by_hand():
    log_p = LOGITS - LOGITS.exp().sum(1, keepdim=True).log()
    expected = -(log_p[0, 0] + log_p[1, 2]) / 2
    torch.testing.assert_close(CrossEntropy()(LOGITS, LABELS, IMAGES), expected)
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])
    smooth = 0.9 * shares + 0.1 / 3
    expected = -(smooth * log_p).sum(1).mean()
    torch.testing.assert_close(CrossEntropy(smoothing=0.1)(LOGITS, shares, IMAGES), expected)


def test_cross_entropy_weighs_classes():
    log_p = LOGITS - LOGITS.exp().sum(1, keepdim=True).log()
    loss = CrossEntropy(class_weights=[3.0, 1.0, 0.5])
    expected = -(3 * log_p[0, 0] + 0.5 * log_p[1, 2]) / 3.5
    torch.testing.assert_close(loss(LOGITS, LABELS, IMAGES), expected)
    assert not loss.state_dict()


def test_balanced_classes_weigh_alike_in_any_loss_that_asks_for_it():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    inner = CrossEntropy(class_weights="balanced")
    loss = Distillation(loss=inner, teacher=nn.Identity())
    balance_classes(loss, lambda: labels, 3)
    torch.testing.assert_close(inner.weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    per_class = inner.weights * labels.bincount()
    torch.testing.assert_close(per_class, torch.full((3,), 10 / 3))


def test_labels_are_read_only_for_balanced_classes():
    balance_classes(CrossEntropy(), lambda: pytest.fail("labels were read"), 3)


def test_class_weights_are_refused_that_are_not_one_per_class():
    loss = CrossEntropy(class_weights=[1.0, 2.0])
    with pytest.raises(ConfigError, match=r"loss.class_weights has 2 values for 3 classes"):
        balance_classes(loss, lambda: LABELS, 3)
    with pytest.raises(ValueError, match="class_weights=equal is unknown"):
        CrossEntropy(class_weights="equal")


def test_binary_cross_entropy_asks_each_class():
    targets = torch.eye(3)[LABELS]
    p = LOGITS.sigmoid()
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    torch.testing.assert_close(BinaryCrossEntropy()(LOGITS, LABELS, IMAGES), expected)
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.1, 0.9]])
    counted = BinaryCrossEntropy(threshold=0.5)(LOGITS, mixed, IMAGES)
    torch.testing.assert_close(counted, expected)


def test_binary_cross_entropy_is_that_of_timm():
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.1, 0.9]])
    for options in ({}, {"smoothing": 0.1}, {"sum_classes": True}):
        timm = TimmBinaryCrossEntropy(**({"smoothing": 0.0} | options))
        ours = BinaryCrossEntropy(**options)
        torch.testing.assert_close(ours(LOGITS, LABELS, IMAGES), timm(LOGITS, LABELS))
        smooth = mixed * (1 - timm.smoothing) + timm.smoothing / 3  # timm's mixing smooths itself
        torch.testing.assert_close(ours(LOGITS, mixed, IMAGES), timm(LOGITS, smooth))


def test_binary_cross_entropy_of_several_labels_weighs_what_is_there():
    labels = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 1, 1]])
    loss = BinaryCrossEntropy(pos_weight="balanced")
    balance_classes(loss, lambda: labels, 3)
    torch.testing.assert_close(loss.weights, torch.tensor([1.0, 3.0, 0.0]))
    given, p = BinaryCrossEntropy(pos_weight=[2, 1, 1]), LOGITS.sigmoid()
    targets = labels[:2]
    weights = torch.tensor([2.0, 1.0, 1.0])
    expected = -(weights * targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    torch.testing.assert_close(given(LOGITS, targets, IMAGES), expected)
    with pytest.raises(ConfigError, match=r"loss.pos_weight has 3 values for 4 classes"):
        balance_classes(given, lambda: labels, 4)


def test_divergence_is_zero_for_equals_and_by_hand_for_others():
    assert divergence(LOGITS, LOGITS + 2) == pytest.approx(0, abs=1e-7)
    student, teacher = (LOGITS / 2).softmax(1), (LOGITS.flip(1) / 2).softmax(1)
    expected = 4 * (teacher * (teacher / student).log()).sum(1).mean()
    torch.testing.assert_close(divergence(LOGITS, LOGITS.flip(1), 2.0), expected)


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        return self.logits


def test_distillation_adds_the_teacher_and_keeps_it_out_of_the_checkpoint():
    loss = Distillation(loss=CrossEntropy(), teacher=Fixed(LOGITS.flip(1)), weight=0.25)
    expected = 0.75 * CrossEntropy()(LOGITS, LABELS, IMAGES)
    expected = expected + 0.25 * divergence(LOGITS, LOGITS.flip(1))
    torch.testing.assert_close(loss(LOGITS, LABELS, IMAGES), expected)
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_teacher_is_shared_by_copies_of_the_student():
    loss = Distillation(loss=CrossEntropy(), teacher=Fixed(LOGITS))
    copy = deepcopy(loss)
    assert copy.loss is not loss.loss
    assert copy._teacher.module is loss._teacher.module


def test_distillation_refuses_a_teacher_of_other_classes():
    loss = Distillation(loss=CrossEntropy(), teacher=Fixed(torch.zeros(2, 5)))
    with pytest.raises(ValueError, match="the teacher gives 5 classes, the network 3"):
        loss(LOGITS, LABELS, IMAGES)


def test_teacher_that_numbers_other_classes_is_refused():
    teacher = Fixed(LOGITS)
    check_teachers(Distillation(loss=CrossEntropy(), teacher=teacher), ["ant", "bee", "cat"])
    teacher.class_names = ["ant", "cat", "bee"]
    loss = Distillation(loss=CrossEntropy(), teacher=teacher)
    check_teachers(loss, ["ant", "cat", "bee"])
    with pytest.raises(ConfigError, match="its class 1 is 'cat', that of the data is 'bee'"):
        check_teachers(loss, ["ant", "bee", "cat"])


def test_divergence_of_masks_is_the_mean_over_their_pixels():
    logits, wanted = torch.randn(2, 2, 3, 4, 5)
    pixels = [
        divergence(logits[:, :, i, j], wanted[:, :, i, j]) for i in range(4) for j in range(5)
    ]
    torch.testing.assert_close(divergence(logits, wanted), torch.stack(pixels).mean())


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_impossible_weights_of_classes_are_refused(weights, refusal):
    message = refusal(lambda: CrossEntropy(class_weights=weights))
    assert message.endswith("wanted numbers from 0, not all 0")


def test_threshold_above_which_nothing_counts_is_refused(refusal):
    assert "loss.threshold=2" in refusal(lambda: BinaryCrossEntropy(threshold=2))
