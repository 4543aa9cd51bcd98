"""Class activation maps through torchcam, with layer and reshaping chosen for our networks and timm's.

Sources: Selvaraju et al. 2017, arXiv:1610.02391 (Grad-CAM); Chattopadhay et al. 2018, arXiv:1710.11063
(Grad-CAM++); Fu et al. 2020, arXiv:2008.02312 (XGrad-CAM); Jiang et al. 2021 (LayerCAM).
"""

from importlib import import_module
from typing import Any

import torch

from mambavision_lab.errors import missing_extra
from mambavision_lab.explainers.base import Explanation, require_finite, to_image
from mambavision_lab.explainers.features import find_feature_layer
from mambavision_lab.explainers.subject import Subject

CLASSES = {  # method -> class of torchcam.methods
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMpp",
    "layercam": "LayerCAM",
    "xgradcam": "XGradCAM",
}


def explain(subject: Subject, method: str) -> Explanation:
    """Map where the features of the last layer with a map speak for the class.

    Raises:
        ConfigError: torchcam is missing, the network has no layer with a map, or values are not finite.
    """
    try:
        methods: Any = import_module("torchcam.methods")
    except ImportError as error:
        package = "torchcam (Python 3.11 or later)"
        raise missing_extra(f"method={method}", package, "explain") from error
    net, image = subject.net, subject.image
    layer = find_feature_layer(net, image)
    trained = [p for p in net.parameters() if p.requires_grad]
    extractor = getattr(methods, CLASSES[method])
    with torch.enable_grad(), extractor(net, layer.name, reshape_transform=layer.to_map) as cam:
        x = (
            image.detach().clone().requires_grad_(not trained)
        )  # a frozen network has no other gradient
        scores = require_finite(net.forward(x), "the network's output for this image")
        (grid,) = cam(class_idx=subject.target, scores=scores, normalized=False)
    source = f"{CLASSES[method]} at {layer.name}"
    return Explanation(to_image(require_finite(grid[0].detach(), source), image), source)
