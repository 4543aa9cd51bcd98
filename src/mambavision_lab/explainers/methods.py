"""The methods by name, and the one call that explains an image with one of them."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers import (
    attention,
    attribution,
    baselines,
    cam,
    eigencam,
    grad_rollout,
    mixer,
    rollout,
    scan,
)
from mambavision_lab.explainers.base import Explanation, Method
from mambavision_lab.explainers.names import require_methods
from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.mixer import MambaVisionMixer

METHODS: dict[str, Method] = {
    "attention": attention.explain,
    "scan": scan.explain,
    "mixer": mixer.explain,
    "rollout": rollout.explain,
    "grad_rollout": grad_rollout.explain,
    **{name: partial(cam.explain, method=name) for name in cam.CLASSES},
    "eigencam": eigencam.explain,
    **{name: partial(attribution.explain, method=name) for name in attribution.METHODS},
}
BASELINES: dict[str, Method] = {"centre": baselines.centre, "random": baselines.random}


def explain(net: nn.Module, image: Tensor, method: str, target: int | None = None) -> Explanation:
    """Explain one image.

    Args:
        net: A classifier of ours or of timm, in evaluation mode.
        image: Normalised, (1, C, H, W).
        method: A name from `METHODS` or `BASELINES`.
        target: The class to explain, for the methods that ask for one; None is the predicted class.

    Raises:
        ConfigError: The method is unknown, the network lacks the blocks that it needs, a package is missing,
            the class does not exist, or the network gives values that are not finite.
    """
    require_methods([method])
    with torch.inference_mode(False):
        image = image.clone()  # one that may carry gradients
        if target is None:
            with torch.no_grad():
                target = int(net.forward(image).argmax())
        num_classes = getattr(net, "num_classes", None)
        if num_classes is not None and not 0 <= target < num_classes:
            raise ConfigError(
                f"target={target}: the network knows the classes 0 to {num_classes - 1}"
            )
        found = {**METHODS, **BASELINES}[method](net, image, target)
    if not found.map.any():
        return replace(
            found, notes=(*found.notes, "0 everywhere: nothing here speaks for the class")
        )
    return found


def default_method(net: nn.Module) -> str:
    """Return a method that needs no extra package: grad_rollout, or eigencam without our blocks."""
    has_blocks = any(isinstance(m, Attention | MambaVisionMixer) for m in net.modules())
    return "grad_rollout" if has_blocks else "eigencam"
