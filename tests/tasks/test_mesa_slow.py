"""callbacks=ema_mesa in several processes."""

import pytest
import torch
from task_options import TRAIN


@pytest.mark.slow
def test_mesa_trains_in_two_processes(call, tmp_path):
    options = [option for option in TRAIN if option != "trainer=cpu"]
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "callbacks=ema_mesa")
    status, _, _ = call("train", *options, *two, "callbacks.ema.start=0", "data.batch_size=4")
    assert status == 0
    checkpoint = torch.load(tmp_path / "logs/latest/checkpoints/last.ckpt", weights_only=True)
    raw, average = checkpoint["current_model_state"], checkpoint["state_dict"]
    assert all(value.isfinite().all() for value in average.values())
    assert not torch.equal(raw["net.head.weight"], average["net.head.weight"])
