"""The devices that a config wants, compared with those of the machine."""

import pytest
import torch
from omegaconf import OmegaConf

from mambavision_lab.launch.distributed.devices import (
    check_devices,
    get_max_restarts,
    num_local_processes,
)


@pytest.fixture
def gpus(monkeypatch):
    """Let torch count this many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)

    return pretend


@pytest.mark.parametrize(
    ("overrides", "available", "message"),
    [
        (["trainer=gpu"], 0, "trainer.accelerator=gpu: no GPU can be used here"),
        (
            ["trainer=ddp"],
            0,
            "for several processes on the CPU trainer=ddp trainer.accelerator=cpu",
        ),
        (["trainer=ddp", "trainer.devices=4"], 2, "has 2 GPUs; choose trainer.devices=2 or fewer"),
        (["trainer=ddp", "trainer.devices=[0,3]"], 2, "trainer.devices=[0, 3]: this machine has 2"),
        (
            ["trainer=gpu", "trainer.devices=2"],
            1,
            "this machine has 1 GPU; choose trainer.devices=1",
        ),
        (["trainer=auto", "trainer.devices=9"], 8, "choose trainer.devices=8 or fewer"),
        (["trainer=auto", "trainer.sync_batchnorm=true"], 0, "BatchNorm on CUDA GPUs only; choose"),
        (
            ["trainer=ddp", "trainer.accelerator=cpu", "trainer.sync_batchnorm=true"],
            2,
            "trainer.sync_batchnorm=true: torch synchronises BatchNorm on CUDA GPUs only",
        ),
    ],
)
def test_devices_that_do_not_exist_are_refused(
    compose, refusal, gpus, overrides, available, message
):
    gpus(available)
    assert message in refusal(lambda: check_devices(compose("train", *overrides)))


@pytest.mark.parametrize(
    ("overrides", "available", "num_processes"),
    [
        (["trainer=auto"], 0, 1),
        (["trainer=gpu"], 4, 1),
        (["trainer=ddp"], 4, 4),
        (["trainer=fsdp"], 2, 2),
        (["trainer=ddp", "trainer.sync_batchnorm=true"], 2, 2),
        (["trainer=ddp", "trainer.devices=[1,3]"], 4, 2),
        (["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=3"], 0, 3),
    ],
)
def test_each_device_is_given_a_process(compose, gpus, overrides, available, num_processes):
    gpus(available)
    cfg = compose("train", *overrides)
    check_devices(cfg)
    assert num_local_processes(cfg) == num_processes


@pytest.mark.parametrize(
    ("launcher", "max_restarts"),
    [("", 0), ("launcher: null", 0), ("launcher: {max_restarts: 2}", 2)],
)
def test_restarts_are_those_of_the_launcher_node(launcher, max_restarts):
    assert get_max_restarts(OmegaConf.create(launcher or {})) == max_restarts
