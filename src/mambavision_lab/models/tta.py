"""Test-time augmentation: a network's prediction for an image, averaged over several views of it.

The mean is that of the probabilities.

Source: Szegedy et al. 2015, arXiv:1409.4842, section 7.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.errors import ConfigError
from mambavision_lab.models.try_image import try_size

Predict = Callable[[Tensor], Tensor]  # images to logits


class TestTimeAugmentation:
    """Average the probabilities that a network gives for views of normalised images, on their device.

    The views are all combinations: at each size the whole image, shifted and cropped; each of these
    mirrored too.

    Args:
        flip: Add the mirror image of each view.
        shift: Add the image moved by so many pixels to each of four sides, mirrored at its border.
        crop: Add its four corners and centre, of this share of the sides, enlarged to the image's size.
        sizes: Resize the image to each of these numbers of pixels; None leaves its size.
        flip_keeps_class: Whether a mirrored image keeps its class.

    Raises:
        ConfigError: A setting is impossible, or flip is wanted where it changes the class.
    """

    __test__ = False  # no test of pytest's

    def __init__(
        self,
        *,
        flip: bool = False,
        shift: int = 0,
        crop: float | None = None,
        sizes: Sequence[int] | None = None,
        flip_keeps_class: bool = True,
    ) -> None:
        if flip and not flip_keeps_class:
            raise ConfigError(
                "tta.flip=true: these images change their class when mirrored (data.flip_keeps_class="
                "false); give tta.flip=false"
            )
        if shift < 0:
            raise ConfigError(f"tta.shift={shift}: wanted a number of pixels, 0 or more")
        if crop is not None and not 0 < crop < 1:
            raise ConfigError(f"tta.crop={crop}: wanted a share between 0 and 1, or null")
        if sizes is not None and (not sizes or min(sizes) < 1):
            raise ConfigError(f"tta.sizes={list(sizes)}: wanted numbers of pixels, or null")
        self.flip, self.shift, self.crop, self.sizes = flip, shift, crop, sizes

    def __call__(self, predict: Predict, images: Tensor, is_multilabel: bool = False) -> Tensor:
        """Return logits of the mean probabilities, (N, num_classes), float32, for images (N, C, H, W).

        Args:
            predict: Maps images to logits.
            images: The images.
            is_multilabel: Whether each class has a probability of its own; else they sum to 1, and
                log-probabilities are returned.
        """
        logits = torch.stack([predict(view).float() for view in self.views(images)])
        if is_multilabel:
            yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
            return torch.logsumexp(yes, dim=0) - torch.logsumexp(no, dim=0)
        return torch.logsumexp(logits.log_softmax(dim=2), dim=0) - math.log(len(logits))

    def __str__(self) -> str:
        parts = ["flips"] * self.flip
        parts += [f"shifts of {self.shift} px"] if self.shift else []
        parts += [f"crops of {self.crop:g}"] if self.crop else []
        parts += [f"sizes {', '.join(map(str, self.sizes))}"] if self.sizes else []
        return " and ".join(parts) or "one view"

    def views(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the views of images (N, C, H, W), a batch of each; all slices of a volume alike."""
        planes = images.flatten(1, -3)  # the slices of a volume as channels; images as they are
        all_sides = [[s, s] for s in self.sizes or ()] or [list(images.shape[-2:])]
        for sides in all_sides:
            for part in self._parts(resize(planes, sides)):
                view = part.reshape(*images.shape[:-2], *part.shape[-2:])
                yield view
                if self.flip:
                    yield view.flip(-1)

    def check(self, net: nn.Module, in_chans: int, image_size: int) -> None:
        """Refuse sizes that a network does not take, and shifts out of the image.

        Raises:
            ConfigError: They are.
        """
        if self.shift >= min(self.sizes or [image_size]):
            raise ConfigError(f"tta.shift={self.shift}: wanted less than the side of the images")
        for size in self.sizes or ():
            try_size(net, in_chans, size, f"tta.sizes={list(self.sizes or ())}")

    def _parts(self, images: Tensor) -> Iterator[Tensor]:
        yield images
        height, width = images.shape[-2:]
        if s := self.shift:
            wide = F.pad(images, [s] * 4, "reflect")
            for top, left in ((0, s), (2 * s, s), (s, 0), (s, 2 * s)):
                yield wide[..., top : top + height, left : left + width]
        if self.crop:
            sides = [max(1, round(self.crop * side)) for side in (height, width)]
            for part in TF.five_crop(images, sides):
                yield resize(part, [height, width])


def resize(images: Tensor, size: list[int]) -> Tensor:
    """Resize normalised images (N, C, H, W) to a height and width; those of that size stay as they are."""
    return TF.resize(images, size, InterpolationMode.BILINEAR, antialias=True)
