"""Mix the images of a batch with each other, and their labels alike: MixUp and CutMix, timm's.

Source: Zhang et al. 2017, arXiv:1710.09412 (MixUp); Yun et al. 2019, arXiv:1905.04899 (CutMix).
"""

import math

import torch
from timm.data import Mixup
from torch import Tensor

from mambavision_lab.data.augment.draws import Draws
from mambavision_lab.errors import ConfigError


class Mixing:
    """Mix each image with the one at the mirrored place in the batch.

    Args:
        mixup: Parameter of the Beta distribution of MixUp's shares; 0 switches it off.
        cutmix: Parameter of the Beta distribution of CutMix's areas; 0 switches it off.
        prob: Share of the batches (or images) that are mixed.
        switch_prob: Share of the mixed ones that take CutMix, where both are on.
        per_image: Whether each image draws its own share and area, or the batch one for all.

    Raises:
        ConfigError: A setting is out of range.
    """

    def __init__(
        self,
        *,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        per_image: bool = False,
    ) -> None:
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if not 0 <= value < math.inf:
                raise ConfigError(
                    f"augment.{name}={value} must be 0, which switches it off, or more"
                )
        for name, value in (("mix_prob", prob), ("mix_switch_prob", switch_prob)):
            if not 0 <= value <= 1:
                raise ConfigError(f"augment.{name}={value} must lie between 0 and 1")
        self._mix = Mixup(
            mixup_alpha=mixup,
            cutmix_alpha=cutmix,
            prob=prob,
            switch_prob=switch_prob,
            mode="elem" if per_image else "batch",
            label_smoothing=0.0,  # the loss smooths
        )

    def __call__(
        self, images: Tensor, labels: Tensor, num_classes: int, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Return mixed images (N, C, H, W) and the share of each class in them, (N, num_classes).

        Labels are classes, (N,), or 0 or 1 for each class, (N, num_classes).

        Raises:
            ConfigError: As in `check`.
        """
        self.check(len(images))
        has_several = labels.ndim == 2
        self._mix.num_classes = len(images) if has_several else num_classes
        given = torch.arange(len(images), device=labels.device) if has_several else labels
        with draws.seed_libraries():
            mixed, shares = self._mix(images.clone(), given)
        return mixed, shares @ labels.to(shares.dtype) if has_several else shares

    def check(self, num_images: int) -> None:
        """Check that a batch can be mixed.

        Raises:
            ConfigError: It has an odd number of images: one would be mixed with itself.
        """
        if num_images % 2:
            raise ConfigError(
                f"a batch of {num_images} images cannot be mixed in pairs; choose an even "
                "data.batch_size, or augment.mixup=0 augment.cutmix=0"
            )
