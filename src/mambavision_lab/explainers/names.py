"""The methods' names, and how a list of them is checked; imports no torch."""

import difflib
from collections.abc import Iterable

from mambavision_lab.errors import ConfigError

OF_BLOCKS = ("attention", "scan", "mixer", "rollout", "grad_rollout")
OF_FEATURES = ("gradcam", "gradcam++", "layercam", "xgradcam", "eigencam")
OF_PIXELS = ("input_x_gradient", "integrated_gradients", "smoothgrad")
METHODS = (*OF_BLOCKS, *OF_FEATURES, *OF_PIXELS)
BASELINES = ("centre", "random")


def require_methods(methods: Iterable[str]) -> None:
    """Refuse names of methods that do not exist.

    Raises:
        ConfigError: One is unknown.
    """
    known = [*METHODS, *BASELINES]
    for name in methods:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose among {', '.join(known)}"
            raise ConfigError(f"method={name}: no such method; {hint}")
