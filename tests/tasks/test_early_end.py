"""A training that ends early says why."""

import functools

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, Timer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.tasks.early_end import print_early_end


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.global_step >= self.step


def stopping(**options):
    return EarlyStopping("val/acc1", mode="max", **options)


CASES = [
    (stopping(patience=2), {}, "stopped after epoch 3: val/acc1 has not risen for 2 epochs"),
    (stopping(patience=1), {}, "stopped after epoch 2: val/acc1 has not risen for 1 epoch"),
    (
        EarlyStopping("val/loss", patience=3, check_on_train_epoch_end=False),
        {"val_check_interval": 0.5},
        "stopped after epoch 2: val/loss has not fallen for 3 validations",
    ),
    (
        stopping(stopping_threshold=-1.0),
        {},
        "stopped after epoch 1: Stopping threshold reached: val/",
    ),
    (Timer("00:00:00:00"), {}, "stopped after step 0, in epoch 1: the time is over, 0:00:00"),
    (StopAt(3), {}, "stopped after step 3, in epoch 2: a callback asked for it"),
    (StopAt(7), {}, "stopped after step 7, in epoch 4: a callback asked for it"),
    (StopAt(8), {}, ""),  # it had come to its end
    (StopAt(3), {"max_steps": 3}, ""),
    (stopping(patience=9), {}, ""),
    (stopping(patience=2), {"max_epochs": 3}, ""),
]


@pytest.mark.parametrize(("callback", "options", "wanted"), CASES)
def test_early_end_is_explained_in_one_line(callback, options, wanted, make_trainer, capsys):
    loader = DataLoader(TensorDataset(torch.ones(4, 2), torch.tensor([0, 1, 0, 1])), batch_size=2)
    classifier = ImageClassifier(
        nn.Linear(2, 2),
        num_classes=2,
        optimizer=functools.partial(torch.optim.SGD, lr=0.0),
        channels_last=False,
    )
    trainer = make_trainer(**{"max_epochs": 4, "callbacks": [callback], **options})
    trainer.fit(classifier, loader, loader)
    capsys.readouterr()
    print_early_end(trainer)
    out = capsys.readouterr().out
    assert out.startswith(wanted)
    assert out.count("\n") == bool(wanted)
