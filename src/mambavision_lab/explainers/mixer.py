"""A whole Mamba mixer as one map: its convolutions, its scan and its other branch together."""

from torch import Tensor, nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers.base import Explanation, to_image
from mambavision_lab.explainers.record import record, require_layout
from mambavision_lab.explainers.scan import mixer_map


def explain(net: nn.Module, image: Tensor, target: int) -> Explanation:
    """Map what the last Mamba mixer takes from each token, over all tokens.

    Raises:
        ConfigError: The network has no Mamba blocks, or values are not finite.
    """
    calls = record(net, image).scans
    if not calls:
        raise ConfigError(
            f"method=mixer: {type(net).__name__} has no Mamba blocks; choose attention or gradcam"
        )
    layers = {}
    for call in calls:
        layout = require_layout(call)
        taken = mixer_map(call, (~layout.is_padding()).to(call.x))
        layers[call.name] = to_image(layout.to_grid(taken), image)
    name = calls[-1].name
    return Explanation(layers[name], f"gradient of the mixer of {name}, delta, B, C fixed", layers)
