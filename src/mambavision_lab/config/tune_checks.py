"""Check `tune`, which looks for a value in place of training."""

from typing import Any

from mambavision_lab.errors import ConfigError

_CHOICES = ("lr", "batch_size")


def check_tune(cfg: dict[str, Any]) -> None:
    """Check the plain values of a training's config.

    Raises:
        ConfigError: There is no such choice, or this run cannot be tuned.
    """
    given, trainer = cfg.get("tune"), cfg.get("trainer") or {}
    if given is None:
        return
    if given not in _CHOICES:
        raise ConfigError(f"tune={given}: no such choice; choose {' or '.join(_CHOICES)}, or null")
    if cfg.get("ckpt_path") is not None and cfg.get("resume") != "weights":
        raise ConfigError(
            f"tune={given}: a run that resumes has its values; give resume=weights to tune one that starts "
            "from the weights of ckpt_path"
        )
    devices = trainer.get("devices")
    num_devices = len(devices) if isinstance(devices, list) else devices
    if trainer.get("num_nodes", 1) > 1 or (isinstance(num_devices, int) and num_devices > 1):
        raise ConfigError(
            f"tune={given}: runs in one process; give trainer.devices=1 trainer.num_nodes=1 "
            "(classifier.scale_lr carries the rate over to more)"
        )
    if given == "batch_size" and trainer.get("accelerator") == "cpu":
        raise ConfigError(
            "tune=batch_size: looks for the batch that fills the memory of a CUDA GPU; on the CPU compare "
            "train/images_per_s, with -m data.batch_size=32,64,128"
        )
