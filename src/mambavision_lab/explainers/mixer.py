"""A whole Mamba mixer as one map: its convolutions, its scan and its other branch together."""

from mambavision_lab.explainers.base import Explanation, to_image
from mambavision_lab.explainers.calls import require_layout
from mambavision_lab.explainers.scan import mixer_map
from mambavision_lab.explainers.subject import Subject


def explain(subject: Subject) -> Explanation:
    """Map what the last Mamba mixer takes from each token, over all tokens.

    Raises:
        ConfigError: The network has no Mamba blocks, or values are not finite.
    """
    calls = subject.scans("mixer")
    layers = {}
    for call in calls:
        layout = require_layout(call)
        taken = mixer_map(call, (~layout.is_padding()).to(call.x))
        layers[call.name] = to_image(layout.to_grid(taken), subject.image)
    name = calls[-1].name
    return Explanation(layers[name], f"gradient of the mixer of {name}, delta, B, C fixed", layers)
