"""Attribution to pixels through captum: input x gradient, integrated gradients, SmoothGrad.

Sources: Shrikumar et al. 2016, arXiv:1605.01713; Sundararajan et al. 2017, arXiv:1703.01365; Smilkov et al.
2017, arXiv:1706.03825.
"""

from importlib import import_module
from typing import Any

import torch

from mambavision_lab.errors import missing_extra
from mambavision_lab.explainers.base import Explanation, require_finite
from mambavision_lab.explainers.subject import Subject

METHODS = ("input_x_gradient", "integrated_gradients", "smoothgrad")
_NUM_STEPS = 12  # of the integral, at Gauss-Legendre nodes
_NUM_NOISY = 8  # images of SmoothGrad
_NOISE = 0.15  # their noise's standard deviation, as a share of the image's range
_BATCH = 12


def explain(subject: Subject, method: str) -> Explanation:
    """Map the absolute attribution of each pixel, summed over its channels; the baseline is 0.

    0 is the mean image, as images are normalised. SmoothGrad's noise is the same in every call.

    Raises:
        ConfigError: captum is missing, or values are not finite.
    """
    try:
        captum: Any = import_module("captum.attr")
    except ImportError as error:
        raise missing_extra(f"method={method}", "captum", "explain") from error
    image, forward = subject.image, subject.net.forward
    target = subject.target
    x = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        if method == "input_x_gradient":
            values = captum.InputXGradient(forward).attribute(x, target=target)
            source = "input x gradient of the class's logit"
        elif method == "integrated_gradients":
            options: dict[str, float] = {"n_steps": _NUM_STEPS, "internal_batch_size": _BATCH}
            integral = captum.IntegratedGradients(forward)
            values = integral.attribute(x, target=target, **options)
            source = f"integrated gradients of the class's logit, {_NUM_STEPS} steps from 0"
        else:
            noise = float(_NOISE * (image.max() - image.min()))
            options = {"nt_samples": _NUM_NOISY, "nt_samples_batch_size": _BATCH, "stdevs": noise}
            smooth = captum.NoiseTunnel(captum.Saliency(forward))
            with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
                torch.manual_seed(0)
                values = smooth.attribute(x, target=target, nt_type="smoothgrad", **options)
            source = f"SmoothGrad: |gradient|, mean of {_NUM_NOISY} images with noise"
    total = values.detach().float().sum(dim=1)[0].abs()
    return Explanation(require_finite(total, source), source)
