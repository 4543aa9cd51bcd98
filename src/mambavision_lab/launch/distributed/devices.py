"""Read from a config how many devices, processes and restarts it wants, and check them on this machine.

torch is imported only where a config may use GPUs; a process that starts workers on the CPU does without it.
"""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.counting import counted
from mambavision_lab.errors import ConfigError


def check_devices(cfg: DictConfig) -> None:
    """Compare the requested devices with those of this machine.

    Raises:
        ConfigError: GPUs are requested that do not exist, or something that only GPUs can do.
    """
    accelerator, devices = cfg.trainer.accelerator, _parse_devices(cfg.trainer.devices)
    if cfg.trainer.get("sync_batchnorm") and not _uses_cuda(accelerator):
        raise ConfigError(
            "trainer.sync_batchnorm=true: torch synchronises BatchNorm on CUDA GPUs only; choose "
            "trainer.sync_batchnorm=false, or trainer=ddp on a machine with GPUs"
        )
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
            f"trainer.devices={cfg.trainer.devices}: this machine has "
            f"{counted(available, 'GPUs')}; choose trainer.devices={available} or fewer"
        )


def num_local_processes(cfg: DictConfig) -> int:
    """Count the processes of a run on this machine: one for each of the trainer's devices."""
    devices = _parse_devices(cfg.trainer.devices)
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1):
        import torch

        return max(1, torch.cuda.device_count()) if cfg.trainer.accelerator != "cpu" else 1
    return devices


def get_max_restarts(cfg: DictConfig) -> int:
    """Return `launcher.max_restarts`; 0 for a task that has no such node."""
    return OmegaConf.select(cfg, "launcher.max_restarts") or 0


def _uses_cuda(accelerator: str) -> bool:
    if accelerator not in ("gpu", "cuda", "auto"):
        return False
    import torch

    return accelerator != "auto" or torch.cuda.is_available()


def _parse_devices(devices: Any) -> Any:
    """Parse `trainer.devices` into a number, a list of numbers, or "auto"."""
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
