import copy
import functools

import pytest
import torch
from composing import _registered, compose  # noqa: F401
from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.config.trainer_checks import check_training, metric_names
from mambavision_lab.lit.callbacks.ema import EMA
from mambavision_lab.lit.callbacks.grad_norm import GradientNorm
from mambavision_lab.lit.callbacks.throughput import Throughput
from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.metrics import is_count

CALLBACKS = "lightning.pytorch.callbacks"
BASE = {
    "optimizer": {"_target_": "torch.optim.adamw.AdamW"},
    "scheduler": {"_target_": "mambavision_lab.lit.schedule.cosine_with_warmup"},
    "classifier": {"_target_": "mambavision_lab.lit.image_classifier.ImageClassifier"},
    "data": {"num_classes": 10},
    "trainer": {"max_epochs": 8, "check_val_every_n_epoch": 1, "limit_val_batches": None},
    "callbacks": {
        "checkpoint": {"_target_": f"{CALLBACKS}.model_checkpoint.ModelCheckpoint"},
        "stop": {"_target_": f"{CALLBACKS}.early_stopping.EarlyStopping", "monitor": "val/acc1"},
        "grad_norm": {"_target_": "mambavision_lab.lit.callbacks.grad_norm.GradientNorm"},
        "best": {
            "_target_": "mambavision_lab.lit.callbacks.best_checkpoint.BestCheckpoint",
            "filename": "{epoch}-{step}-{val/acc1:.3f}-{val/num_images}",
        },
        "off": None,
    },
}
FILENAME = "callbacks.best.filename"
CHECKPOINT, STOP = "callbacks.checkpoint.monitor", "callbacks.stop.monitor"


def config(changes):
    """Return the base with the values at some dotted keys replaced."""
    cfg = copy.deepcopy(BASE)
    for path, value in changes.items():
        *parents, key = path.split(".")
        functools.reduce(lambda node, name: node[name], parents, cfg)[key] = value
    return cfg


REFUSED = [
    ({CHECKPOINT: "val/acc"}, f"{CHECKPOINT}=val/acc: there is no such metric in training; choose"),
    ({STOP: "test/acc1"}, "choose one of val/loss, val/acc1, val/acc5, train/loss"),
    ({STOP: "train/images_per_s"}, "there is no such metric"),  # without the callback that logs it
    (
        {CHECKPOINT: "val/acc5", "data.num_classes": 5},
        "choose one of val/loss, val/acc1, train/loss",
    ),
    ({"trainer.deterministic": "x"}, "trainer.deterministic=x: wanted true, false or warn"),
    (
        {"optimized_metric": "val/acc"},
        "optimized_metric=val/acc: there is no such metric; choose one of val/loss, val/acc1, val/acc5, "
        "test/loss, test/acc1, test/acc5",
    ),
    ({"trainer.limit_val_batches": 0}, f"{STOP}=val/acc1: trainer.limit_val_batches=0 validates"),
    ({"trainer.check_val_every_n_epoch": 9}, "validates nothing in 8 epochs; lower it"),
    (
        {"trainer.check_val_every_n_epoch": 2, "callbacks.stop.check_on_train_epoch_end": True},
        "check_on_train_epoch_end=true: the first epochs are not validated",
    ),
    (
        {"trainer.val_check_interval": 0.5, STOP: "train/loss"},
        "add +callbacks.stop.check_on_train_epoch_end=true",
    ),
    (
        {"scheduler": {"_target_": "torch.optim.lr_scheduler.StepLR"}},
        "takes no num_steps and steps_per_epoch; wanted a function of (optimizer, num_steps,",
    ),
    (
        {"trainer.accumulate_grad_batches": 0},
        "=0: wanted more than 0; give 1 to accumulate nothing",
    ),
    (
        {"trainer.limit_train_batches": 0},
        "trainer.limit_train_batches=0: wanted more than 0; eval.py",
    ),
    ({"trainer.val_check_interval": 0}, "trainer.limit_val_batches=0 switches validation off"),
    ({"trainer.check_val_every_n_epoch": 0}, "trainer.limit_val_batches=0 switches validation off"),
    (
        {FILENAME: "{val/acc:.2f}"},
        f"{FILENAME}={{val/acc:.2f}}: a validation has no 'val/acc'; it may",
    ),
    ({FILENAME: "{train/loss}"}, "has no 'train/loss'; it may hold {val/loss}, {val/acc1}"),
]
ACCEPTED = [
    {},
    {STOP: "train/grad_norm"},
    {"optimized_metric": "test/acc5"},
    {"trainer.deterministic": "warn"},
    {STOP: "train/loss", "trainer.limit_val_batches": 0},
    {"callbacks.stop.strict": False, "trainer.limit_val_batches": 0},
    {"trainer.check_val_every_n_epoch": 2},
    {"trainer.check_val_every_n_epoch": 2, "trainer.max_epochs": -1},
    {"trainer.val_check_interval": 0.5},
    {"trainer.check_val_every_n_epoch": None, "trainer.val_check_interval": 100},
    {"trainer.limit_train_batches": 0.5},
    {FILENAME: "{val/f1}", "callbacks.f1": {"_target_": "parts.F1"}},
    {CHECKPOINT: "lr-AdamW/pg1"},
    {CHECKPOINT: "step"},
    {"scheduler": None},
    # Code of the user's may log what it monitors.
    {CHECKPOINT: "val/f1", "callbacks.f1": {"_target_": "parts.F1"}},
    {CHECKPOINT: "val/f1", "classifier": {"_target_": "parts.Detector"}},
    {CHECKPOINT: "val/acc", "optimizer": None},  # nothing is trained
]


@pytest.mark.parametrize(("changes", "wanted"), REFUSED, ids=str)
def test_training_that_would_stop_later_is_refused_before(changes, wanted, refusal):
    assert wanted in refusal(lambda: check_training(config(changes)))


@pytest.mark.parametrize("changes", ACCEPTED, ids=str)
def test_training_that_can_end_is_accepted(changes):
    check_training(config(changes))


@pytest.mark.parametrize(("num_classes", "is_multilabel"), [(5, False), (6, False), (6, True)])
def test_metric_names_are_those_that_a_training_logs(num_classes, is_multilabel, make_trainer):
    labels = torch.tensor([0, 1, 2, 3])
    if is_multilabel:
        labels = torch.eye(num_classes).long()[labels]
    data = TensorDataset(torch.randn(4, 8), labels)
    loader = DataLoader(data, batch_size=4)
    net = torch.nn.Linear(8, num_classes)
    classifier = ImageClassifier(
        net,
        num_classes=num_classes,
        is_multilabel=is_multilabel,
        optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        channels_last=False,
    )
    trainer = make_trainer(max_epochs=1, callbacks=[GradientNorm(), Throughput(), EMA()])
    trainer.fit(classifier, loader, loader)
    cfg = {
        "classifier": {"_target_": "mambavision_lab.lit.image_classifier.ImageClassifier"},
        "data": {"num_classes": num_classes, "is_multilabel": is_multilabel},
        "callbacks": {
            "a": {"_target_": "mambavision_lab.lit.callbacks.grad_norm.GradientNorm"},
            "b": {"_target_": "mambavision_lab.lit.callbacks.throughput.Throughput"},
            "c": {"_target_": "mambavision_lab.lit.callbacks.ema.EMA"},
        },
    }
    logged = {name for name in trainer.callback_metrics if not is_count(name)}
    assert set(metric_names(cfg) or ()) == logged


LOSSES = "mambavision_lab.lit.losses"
MESA = {"_target_": "mambavision_lab.lit.callbacks.mesa.MESA"}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"loss": {"_target_": f"{LOSSES}.CrossEntropy"}}, "loss: CrossEntropy is for one class"),
        ({"loss": {"_target_": f"{LOSSES}.CrossEntropy"}}, "give loss=bce"),
        ({"loss": {"_target_": f"{LOSSES}.Distillation"}}, "lists several (column labels); give"),
        ({"callbacks.ema": MESA}, "callbacks.ema: MESA is for one class"),
        ({"callbacks.ema": MESA}, "give callbacks=ema"),
        ({STOP: "val/acc1"}, "choose one of val/loss, val/map, val/f1_macro, val/f1_micro"),
        ({FILENAME: "{val/acc1}", STOP: "val/map"}, "a validation has no 'val/acc1'"),
    ],
    ids=str,
)
def test_what_is_for_one_class_is_refused_for_several_labels(changes, wanted, refusal):
    data = {"data": {"num_classes": 10, "is_multilabel": True, "labels_file": "a.csv"}}
    assert wanted in refusal(lambda: check_training(config(data | changes)))


def test_monitor_follows_the_labels(tmp_path, compose):  # noqa: F811
    (tmp_path / "labels.csv").write_text("file,labels\na.png,cat;dog\nb.png,\n")
    data = ("data=image_folder", f"data.root={tmp_path}", "data.labels_file=labels.csv")
    for overrides, metric in (((), "val/acc1"), (data, "val/map")):
        cfg = compose("train", *overrides, "callbacks=early_stopping")
        assert cfg.optimized_metric == metric
        assert cfg.callbacks.checkpoint.monitor == metric
        assert cfg.callbacks.early_stopping.monitor == metric
