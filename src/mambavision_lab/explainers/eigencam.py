"""Eigen-CAM: the features of the last layer with a map along their first principal direction; no class.

Source: Muhammad and Yeasin 2020, arXiv:2008.00299. (torchcam has none; it is one decomposition.)
"""

import torch

from mambavision_lab.explainers.base import Explanation, require_finite, to_image
from mambavision_lab.explainers.features import feature_maps
from mambavision_lab.explainers.subject import Subject


def explain(subject: Subject) -> Explanation:
    """Map the features of each layer with a map onto their first principal direction.

    The direction has two signs; the one is taken with which the map's largest value is positive.

    Raises:
        ConfigError: The network has no layer with a map, or values are not finite.
    """
    layers = {}
    for name, features in feature_maps(subject.net, subject.image).items():
        x = require_finite(features[0].flatten(1).T.float(), f"the features of {name}")
        x = (x - x.mean(dim=0)).double()
        directions, sizes, _ = torch.linalg.svd(x, full_matrices=False)
        first = directions[:, 0] * sizes[0]
        first = first * torch.sign(first[first.abs().argmax()])
        layers[name] = to_image(first.reshape(features.shape[2:]), subject.image)
    name = [*layers][-1]
    return Explanation(layers[name], f"Eigen-CAM at {name}", layers)
