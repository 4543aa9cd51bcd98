"""timm's RandAugment for images as tensors, and a check of any policy; torchvision's need no adapter."""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor, nn

from mambavision_lab.data.augment.draws import keep_random_states, seed_libraries
from mambavision_lab.errors import ConfigError, reason

_NUM_TRIES = 16  # of a policy's random operations


class TimmRandAugment(nn.Module):
    """RandAugment with the operations and magnitudes of timm.

    Args:
        spec: In timm's notation: "rand-m9-mstd0.5-inc1" applies two operations of magnitude 9, varied by
            a normal deviation of 0.5, from the increasing set.
        fill: Grey value that geometric operations let in, 0 to 255.

    Raises:
        ConfigError: timm does not understand spec.

    Source: Cubuk et al. 2019, arXiv:1909.13719; timm/data/auto_augment.py.
    """

    def __init__(self, spec: str = "rand-m9-mstd0.5-inc1", fill: int = 124) -> None:
        super().__init__()
        if not spec.startswith("rand"):
            raise ConfigError(
                f"augment.policy.spec={spec}: wanted timm's notation, such as rand-m9"
            )
        try:
            self.augment = rand_augment_transform(spec, {"img_mean": (fill,) * 3})
        except (AssertionError, ValueError) as error:
            raise ConfigError(
                f"augment.policy.spec={spec}: timm does not understand it ({reason(error)}); "
                "wanted such as rand-m9-mstd0.5-inc1"
            ) from error
        for op in self.augment.ops:
            if (
                "Posterize" in op.name
            ):  # Pillow keeps at least one bit; timm asks for none at magnitude 10
                op.aug_fn = _posterize

    def forward(self, image: Tensor) -> Tensor:
        """Augment one image (C, H, W), uint8, of one or three channels."""
        pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
        augmented = np.array(self.augment(Image.fromarray(pixels)))
        return torch.from_numpy(augmented).permute(2, 0, 1)[: image.shape[0]]


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    return ImageOps.posterize(image, max(1, bits))


def check_policy(policy: nn.Module | None, shape: tuple[int, int, int]) -> None:
    """Try a policy on black images, uint8, of a shape (C, H, W).

    Raises:
        ConfigError: It does not take them, or one of its settings is impossible.
    """
    if policy is None:
        return
    with keep_random_states():
        for number in range(_NUM_TRIES):
            seed_libraries(number)
            try:
                policy(torch.zeros(shape, dtype=torch.uint8))
            except Exception as error:  # of all kinds, from the libraries' operations
                raise ConfigError(
                    f"augment.policy: {type(policy).__name__} fails on an image of "
                    f"{' x '.join(map(str, shape))} ({reason(error, 200)}); "
                    "choose other settings, or augment=light"
                ) from error
