"""How many devices and processes the trainer's settings stand for on this machine."""

from typing import Any

from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError


def check_devices(cfg: DictConfig) -> None:
    """Compare the devices asked for with those of this machine.

    Raises:
        ConfigError: GPUs are asked for that do not exist.
    """
    accelerator, devices = cfg.trainer.accelerator, _listed(cfg.trainer.devices)
    if accelerator not in ("gpu", "cuda", "auto"):
        return
    import torch

    if accelerator != "auto" and not torch.cuda.is_available():
        raise ConfigError(
            f"trainer.accelerator={accelerator}: no GPU can be used here (torch.cuda.is_available() is "
            "false); choose trainer=auto or trainer=cpu, or for several processes on the CPU "
            "trainer=ddp trainer.accelerator=cpu trainer.devices=2"
        )
    available = torch.cuda.device_count()
    if not available or devices in ("auto", -1):
        return
    wanted = max(devices, default=-1) + 1 if isinstance(devices, list) else devices
    if wanted > available:
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices}: this machine has {available} GPU"
            f"{'s' * (available > 1)}; choose trainer.devices={available} or fewer"
        )


def num_local_processes(cfg: DictConfig) -> int:
    """How many processes the trainer's devices stand for on this machine: one each."""
    devices = _listed(cfg.trainer.devices)
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1):
        import torch

        return max(1, torch.cuda.device_count()) if cfg.trainer.accelerator != "cpu" else 1
    return devices


def _listed(devices: Any) -> Any:
    """`trainer.devices` as a number, a list of numbers or "auto"."""
    if devices == "auto" or isinstance(devices, int):
        return devices
    try:
        if isinstance(devices, str) and "," not in devices:
            return int(devices)
        parts = devices.split(",") if isinstance(devices, str) else devices
        return [int(device) for device in parts if str(device).strip()]
    except ValueError:
        raise ConfigError(
            f"trainer.devices={devices}: wanted a number of devices, a list such as [0,1], or auto"
        ) from None
