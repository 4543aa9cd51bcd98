"""What only data, network and device tell is refused before the first step."""

import math
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mambavision_lab.data.synthetic import SyntheticDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.lit.schedule import constant_with_warmup
from mambavision_lab.tasks.start_checks import check_schedule, check_start


@pytest.fixture(scope="module")
def data():
    """8 batches to train on, 3 to validate, 2 to test."""
    return SyntheticDataModule(
        image_size=8,
        in_chans=1,
        num_classes=2,
        mean=[0.5],
        std=[0.3],
        num_train=32,
        num_val=12,
        num_test=8,
        batch_size=4,
        num_workers=0,
    )


REFUSED = [
    (
        {"limit_val_batches": 0.3},
        "trainer.limit_val_batches=0.3: is less than one of the 3 batches",
    ),
    ({"limit_val_batches": 0.3}, "a share of at least 0.334"),
    ({"limit_test_batches": 0.4}, "less than one of the 2 batches"),
    ({"limit_train_batches": 0.1}, "less than one of the 8 batches"),
    ({"val_check_interval": 9}, "trainer.val_check_interval=9: an epoch has 8 batches; lower it"),
    ({"val_check_interval": 5, "limit_train_batches": 0.5}, "an epoch has 4 batches"),
]
ACCEPTED = [
    {},
    {"limit_val_batches": 0.334, "limit_test_batches": 0.5, "limit_train_batches": 0.125},
    {"limit_val_batches": 0, "val_check_interval": 9},
    {"limit_val_batches": 1, "limit_train_batches": 100},
    {"val_check_interval": 8},
    {"val_check_interval": 9, "check_val_every_n_epoch": None},
    {"val_check_interval": 0.01},
]


@pytest.mark.parametrize(("options", "wanted"), REFUSED, ids=str)
def test_limits_that_leave_no_batch_are_refused(options, wanted, data, make_trainer, refusal):
    trainer = make_trainer(**options)
    assert wanted in refusal(lambda: check_start(trainer, torch.nn.Identity(), data))


@pytest.mark.parametrize("options", ACCEPTED, ids=str)
def test_limits_that_leave_batches_are_accepted(options, data, make_trainer):
    check_start(make_trainer(**options), torch.nn.Identity(), data)


def test_backend_that_cannot_run_on_the_device_is_refused(data, make_trainer, make_net, refusal):
    net = make_net(scan_backend="mamba_ssm")
    message = refusal(lambda: check_start(make_trainer(), net, data))
    assert message.startswith(
        "ops.selective_scan.backend=mamba_ssm: it runs on CUDA devices alone, and u is on cpu"
    )
    for backend in ("auto", "torch", "reference"):
        check_start(make_trainer(), make_net(scan_backend=backend), data)


def test_backend_is_asked_in_the_precision_of_the_run(data, make_trainer, make_net, refusal):
    trainer = make_trainer(precision="64-true")
    message = refusal(lambda: check_start(trainer, make_net(scan_backend="numba"), data))
    assert "it computes in float32, and u is float64" in message


def test_checkpoint_callback_of_lightning_is_warned_of(data, make_trainer, tmp_path, caplog):
    callback = ModelCheckpoint(tmp_path)
    check_start(
        make_trainer(callbacks=[callback], enable_checkpointing=True), torch.nn.Identity(), data
    )
    (warning,) = (text for text in caplog.messages if "Lightning's ModelCheckpoint" in text)
    assert "callbacks.newest of callbacks=default" in warning


@pytest.mark.parametrize(
    ("limits", "steps", "per_epoch"),
    [
        ({"max_epochs": 2}, 16, 8),
        ({"max_epochs": 2, "accumulate_grad_batches": 3}, 6, 3),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 8, 4),
        ({"max_epochs": -1, "max_steps": 5}, 5, 8),
        ({"max_epochs": 2, "max_steps": 5}, 5, 8),
        ({"max_epochs": -1}, math.inf, 8),
    ],
    ids=str,
)
def test_schedule_is_tried_for_the_steps_of_the_run(
    limits, steps, per_epoch, data, make_trainer, make_net
):
    asked = {}
    module = ImageClassifier(
        make_net(),
        num_classes=2,
        optimizer=torch.optim.SGD,
        scheduler=lambda optimizer, **given: asked.update(given),
    )
    check_schedule(make_trainer(**limits), module, data)
    assert asked == {"num_steps": steps, "steps_per_epoch": per_epoch}
    module.make_scheduler = partial(constant_with_warmup, warmup_epochs=2.5)
    trainer = make_trainer(max_epochs=2)
    with pytest.raises(
        ConfigError, match=r"warmup_epochs=2\.5 is 20 steps, but the run has only 16"
    ):
        check_schedule(trainer, module, data)
