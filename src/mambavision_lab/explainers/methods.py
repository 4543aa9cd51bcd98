"""The methods by name, and the one call that explains an image with one of them."""

from collections.abc import Callable, Iterable
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
from mambavision_lab.explainers.base import Explanation
from mambavision_lab.explainers.names import require_methods
from mambavision_lab.explainers.subject import Subject
from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.position import check_axes
from mambavision_lab.models.backbone import Backbone

Method = Callable[[Subject], Explanation]

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
    """Explain one image with one method; arguments and errors as in `explain_all`."""
    return explain_all(net, image, [method], target)[method]


def explain_all(
    net: nn.Module, image: Tensor, methods: Iterable[str], target: int | None = None
) -> dict[str, Explanation]:
    """Explain one image with several methods, which share what they need of the network's run.

    Args:
        net: A classifier of ours or of timm, in evaluation mode.
        image: Normalised, (1, C, H, W); a volume or clip (1, C, D, H, W).
        methods: Names from `METHODS` or `BASELINES`.
        target: The class to explain, for the methods that ask for one; None is the predicted class.

    Raises:
        ConfigError: A method is unknown, the network takes images of other axes or lacks the blocks that
            it needs, a package is missing, the class does not exist, or the network gives values that are
            not finite.
    """
    names = [*methods]
    require_methods(names)
    check_axes(image.shape[2:], [1] * (net.dims if isinstance(net, Backbone) else 2))
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
        subject = Subject(net, image, target)
        return {name: _with_notes({**METHODS, **BASELINES}[name](subject)) for name in names}


def _with_notes(found: Explanation) -> Explanation:
    if found.map.any():
        return found
    note = "0 everywhere: nothing here speaks for the class"
    return replace(found, notes=(*found.notes, note))


def default_method(net: nn.Module) -> str:
    """Return a method that needs no extra package: grad_rollout, or eigencam without our blocks."""
    has_blocks = any(isinstance(m, Attention | MambaVisionMixer) for m in net.modules())
    return "grad_rollout" if has_blocks else "eigencam"
