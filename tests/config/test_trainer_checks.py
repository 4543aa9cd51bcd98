import functools

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.config.check import check_config
from mambavision_lab.config.trainer_checks import metric_names
from mambavision_lab.lit.callbacks.grad_norm import GradientNorm
from mambavision_lab.lit.callbacks.throughput import Throughput
from mambavision_lab.lit.image_classifier import ImageClassifier


def stopping(*overrides):
    return ("callbacks=early_stopping", *overrides)


REFUSED = {
    ("callbacks.checkpoint.monitor=val/acc",): "callbacks.checkpoint.monitor=val/acc: there is no",
    stopping(
        "callbacks.early_stopping.monitor=test/acc1"
    ): "no such metric in training; choose one of",
    (
        "callbacks.checkpoint.monitor=val/acc5",
        "data.num_classes=5",
    ): "choose one of val/loss, val/acc1,",
    stopping("trainer.limit_val_batches=0"): "trainer.limit_val_batches=0 validates nothing",
    stopping("trainer.check_val_every_n_epoch=9"): "validates nothing in 8 epochs; lower it",
    stopping(
        "trainer.check_val_every_n_epoch=2",
        "+callbacks.early_stopping.check_on_train_epoch_end=true",
    ): "check_on_train_epoch_end=true: the first epochs are not validated",
    stopping(
        "+trainer.val_check_interval=0.5", "callbacks.early_stopping.monitor=train/loss"
    ): "add +callbacks.early_stopping.check_on_train_epoch_end=true",
    (
        "scheduler={_target_:torch.optim.lr_scheduler.StepLR,step_size:3,_partial_:true}",
    ): "takes no num_steps and steps_per_epoch; wanted a function",
    ("+trainer.max_time=3h",): "trainer.max_time=3h: wanted a duration, DD:HH:MM:SS",
    ("+trainer.max_time={hour:3}",): "trainer.max_time={'hour': 3}: wanted a duration",
    (
        "+trainer.val_check_interval='15 min'",
    ): "trainer.val_check_interval=15 min: wanted a duration",
    (
        "+callbacks.checkpoint.train_time_interval=often",
    ): "callbacks.checkpoint.train_time_interval=often: wanted a duration",
    (
        "+callbacks.timer={_target_:lightning.pytorch.callbacks.timer.Timer,duration:'1:00'}",
    ): "callbacks.timer.duration=1:00: wanted a duration",
}
ACCEPTED = [
    stopping(),
    stopping("callbacks.early_stopping.monitor=train/grad_norm"),
    stopping("trainer.limit_val_batches=0", "callbacks.early_stopping.monitor=train/loss"),
    stopping("trainer.limit_val_batches=0", "+callbacks.early_stopping.strict=false"),
    stopping("trainer.check_val_every_n_epoch=2"),
    stopping("trainer.max_epochs=-1", "trainer.check_val_every_n_epoch=2"),
    ("callbacks.checkpoint.monitor=lr-AdamW/pg1",),
    ("callbacks.checkpoint.monitor=null",),
    ("scheduler=constant",),
    ("+trainer.max_time=00:12:00:00",),
    ("+trainer.max_time={hours:3,minutes:30}",),
    ("+trainer.val_check_interval=0.5",),
    ("+trainer.val_check_interval=00:00:15:00",),
    ("+callbacks.checkpoint.train_time_interval=00:00:30:00",),
    # A callback of the user's may log what it monitors.
    ("callbacks.checkpoint.monitor=val/f1", "+callbacks.f1={_target_:parts.F1}"),
]


@pytest.fixture(autouse=True)
def _parts(make_module):
    make_module("parts.py", "class F1:\n    def __init__(self): ...\n")


@pytest.mark.parametrize("overrides", REFUSED, ids=" ".join)
def test_training_that_would_stop_later_is_refused_before(compose, refusal, overrides):
    cfg = compose("train", *overrides)
    assert REFUSED[overrides] in refusal(lambda: check_config(cfg))


@pytest.mark.parametrize("overrides", ACCEPTED, ids=" ".join)
def test_training_that_can_end_is_accepted(compose, overrides):
    check_config(compose("train", *overrides))


def test_evaluation_is_not_checked_as_a_training(compose):
    check_config(compose("train", "optimizer=null", "callbacks.checkpoint.monitor=val/acc"))


@pytest.mark.parametrize("num_classes", [5, 6])
def test_metric_names_are_those_that_a_training_logs(num_classes, make_trainer):
    data = TensorDataset(torch.randn(4, 8), torch.tensor([0, 1, 2, 3]))
    loader = DataLoader(data, batch_size=4)
    net = torch.nn.Linear(8, num_classes)
    classifier = ImageClassifier(
        net,
        num_classes=num_classes,
        optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        channels_last=False,
    )
    trainer = make_trainer(max_epochs=1, callbacks=[GradientNorm(), Throughput()])
    trainer.fit(classifier, loader, loader)
    cfg = {
        "classifier": {"_target_": "mambavision_lab.lit.image_classifier.ImageClassifier"},
        "data": {"num_classes": num_classes},
        "callbacks": {
            "a": {"_target_": "mambavision_lab.lit.callbacks.grad_norm.GradientNorm"},
            "b": {"_target_": "mambavision_lab.lit.callbacks.throughput.Throughput"},
        },
    }
    assert set(metric_names(cfg) or ()) == set(trainer.callback_metrics)
