"""Read a training checkpoint without running anything that is in it."""

from pathlib import Path
from typing import Any

import torch

from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.image_classifier import ImageClassifier


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of ours onto the CPU; pickled code in it is refused, not run.

    Raises:
        ConfigError: The file is missing, damaged, or not a checkpoint that `train.py` wrote.
    """
    wanted = "wanted a checkpoint that train.py wrote, such as logs/latest/checkpoints/best.ckpt"
    if not Path(path).is_file():
        raise ConfigError(f"ckpt_path={path}: no such file; {wanted}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConfigError(f"ckpt_path={path}: is no checkpoint ({reason}); {wanted}") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= set(
        checkpoint
    ):
        raise ConfigError(f"ckpt_path={path}: holds no state_dict and hyper_parameters; {wanted}")
    return checkpoint


def load_weights(classifier: ImageClassifier, checkpoint: dict[str, Any], path: str) -> None:
    """Load a checkpoint's weights.

    Raises:
        ConfigError: They are those of another network.
    """
    try:
        classifier.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"ckpt_path={path}: does not fit the network ({reason}); give the model it was trained with"
        ) from error
