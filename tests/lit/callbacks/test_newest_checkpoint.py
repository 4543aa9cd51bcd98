"""The newest state: at each epoch's end, whatever the metrics are, never ahead of the logged rows."""

import pytest
import torch
from lightning.pytorch import Callback

from mambavision_lab.lit.callbacks.newest_checkpoint import NEXT, NewestCheckpoint


class Watch(Callback):
    """Write down the step of last.ckpt in each batch, and all steps that were saved."""

    def __init__(self, folder):
        self.folder, self.last, self.saved = folder, [], []

    def on_before_backward(self, *_):
        path = self.folder / "last.ckpt"
        self.last.append(step_of(path) if path.is_file() else None)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.saved.append(checkpoint["global_step"])


@pytest.fixture
def fit(make_classifier, make_loader, make_trainer, tmp_path):
    """Train the toy network, three batches an epoch; returns what was watched."""

    def run(trainer_options, **options):
        watch = Watch(tmp_path)
        callbacks = [NewestCheckpoint(tmp_path, **options), watch]
        trainer = make_trainer(callbacks=callbacks, enable_checkpointing=True, **trainer_options)
        trainer.fit(make_classifier(), make_loader(), make_loader())
        return watch

    return run


def step_of(path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 3}, [3, 6, 9]),
        ({"max_epochs": -1, "max_steps": 4}, [3, 4]),
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, [3, 6, 9]),
        ({"max_epochs": 2, "val_check_interval": 2}, [3, 6]),
        ({"max_epochs": 2, "limit_val_batches": 0}, [3, 6]),
    ],
)
def test_newest_state_is_kept_at_every_epochs_end(fit, tmp_path, options, steps):
    watch = fit(options)
    assert watch.saved == steps
    assert step_of(tmp_path / "last.ckpt") == steps[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_newest_state_is_the_last_one_from_the_next_epochs_start(fit):
    assert fit({"max_epochs": 2}).last == [None, None, None, 3, 3, 3]


def test_newest_state_within_an_epoch_is_the_last_one_from_the_next_batch(fit):
    watch = fit({"max_epochs": 2}, every_n_steps=2)
    assert watch.saved == [2, 3, 4, 6]  # 6 at its epoch's end alone
    assert watch.last == [None, None, 2, 3, 4, 4]
    assert fit({"max_epochs": 1}, every_minutes=0).saved == [1, 2, 3]


def test_newest_state_is_never_saved_within_an_accumulation(fit):
    options = {"max_epochs": 1, "accumulate_grad_batches": 2}
    assert fit(options, every_n_steps=1).last == [None, None, 1]


def test_newest_state_that_was_not_finished_is_removed(fit, tmp_path):
    (tmp_path / NEXT).write_text("half")
    (tmp_path / ".0f.part").write_text("half")
    fit({"max_epochs": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_newest_state_refuses_to_be_saved_every_zero_steps(refusal, tmp_path):
    message = refusal(lambda: NewestCheckpoint(tmp_path, every_n_steps=0))
    assert message == "callbacks.newest.every_n_steps=0: wanted 1 or more"
