"""Check the settings of explanations: methods by name, numbers of images, the demo's port."""

from typing import Any

from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers.names import METHODS, require_methods


def check_explanation(cfg: dict[str, Any]) -> None:
    """Check the plain values of a config of explain.py or demo.py.

    Raises:
        ConfigError: A method does not exist, or a number is impossible.
    """
    if isinstance(cfg.get("method"), str):
        require_methods([cfg["method"]])
    if "max_images" not in cfg:
        if not 0 <= cfg["port"] < 2**16:
            raise ConfigError(f"port={cfg['port']}: wanted a number from 0 to {2**16 - 1}")
        return
    if not cfg["method"]:
        raise ConfigError(f"method=[]: wanted one or more of {', '.join(METHODS)}")
    require_methods(cfg["method"])
    for name in ("max_images", "top_k", "num_measured"):
        if cfg[name] < 1:
            raise ConfigError(f"{name}={cfg[name]}: wanted 1 or more")
