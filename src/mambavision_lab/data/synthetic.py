"""Synthetic images: a textured shape on a noisy background; the class is the shape and its texture.

Position, size, angle, colours and noise are random and independent of the class, so a network must
recognise shape and texture. Everything follows from the seed; no file is read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.settings import require_positive
from mambavision_lab.data.splits import Splits

SHAPES = ("disc", "bar", "triangle", "ring", "cross")
_CHUNK = 256  # images generated at once


class SyntheticDataModule(ImageDataModule):
    """Textured shapes; class k is shape k % 5 with texture k // 5.

    Args:
        num_train: Images to train on.
        num_val: Images to validate on.
        num_test: Images to test on.
        shuffle_labels: Permute the training labels: a control whose accuracy must stay at chance.

    Other settings as in `ImageDataModule`. Held in memory: num x in_chans x image_size^2 bytes.
    """

    supports_any_in_chans: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_size: int,
        in_chans: int,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        flip_keeps_class: bool = True,
        num_train: int = 2400,
        num_val: int = 500,
        num_test: int = 1000,
        shuffle_labels: bool = False,
        batch_size: int = 128,
        global_batch_size: int | None = None,
        seed: int = 0,
        sampler: str = "random",
        augment: nn.Module | None = None,
        num_workers: int | None = None,
        worker_timeout_s: float = 600,
    ) -> None:
        super().__init__(
            image_size=image_size,
            in_chans=in_chans,
            num_classes=num_classes,
            mean=mean,
            std=std,
            flip_keeps_class=flip_keeps_class,
            batch_size=batch_size,
            global_batch_size=global_batch_size,
            seed=seed,
            sampler=sampler,
            augment=augment,
            num_workers=num_workers,
            worker_timeout_s=worker_timeout_s,
        )
        require_positive(num_train=num_train, num_val=num_val, num_test=num_test)
        self.num_train, self.num_val, self.num_test = num_train, num_val, num_test
        self.shuffle_labels = shuffle_labels

    def load(self) -> Splits:
        """Generate the three splits, each from a random stream of its own."""
        train, val, test = (
            self._generate_split(num, stream)
            for stream, num in enumerate((self.num_train, self.num_val, self.num_test))
        )
        if self.shuffle_labels:
            generator = torch.Generator().manual_seed(self.seed)
            train.labels = train.labels[torch.randperm(len(train), generator=generator)]
        names = [
            f"{SHAPES[k % len(SHAPES)]}-{texture_name(k // len(SHAPES))}"
            for k in range(self.num_classes)
        ]
        return Splits(train, val, test, names)

    def _generate_split(self, num: int, stream: int) -> InMemoryImages:
        generator = torch.Generator().manual_seed(3 * self.seed + stream)
        labels = torch.arange(num) % self.num_classes
        labels = labels[torch.randperm(num, generator=generator)]
        images = [
            generate_images(chunk, self.image_size, self.in_chans, generator)
            for chunk in labels.split(_CHUNK)
        ]
        return InMemoryImages(torch.cat(images), labels)

    def masked_images(self, num: int, *, is_far: bool = False) -> tuple[Tensor, Tensor]:
        """Generate images like those of the test split, of a stream of their own, with their objects' masks.

        Args:
            num: Images, the classes in turn.
            is_far: Whether the objects are small and far from the centre: a quarter of the side, in a corner.

        Returns:
            Images, uint8 (N, C, H, W), and which of their pixels are the object, (N, H, W).
        """
        generator = torch.Generator().manual_seed(3 * self.seed + 3 * 2**20)
        labels = torch.arange(num) % self.num_classes
        place = FAR if is_far else Placement()
        return generate_masked_images(labels, self.image_size, self.in_chans, generator, place)


def texture_name(texture: int) -> str:
    """Name a texture by its kind and its number of periods across the shape."""
    kind, periods = _texture(texture)
    return f"{kind}{periods or ''}"


@dataclass(frozen=True)
class Placement:
    """How large objects are and where, in units of half the image's side.

    Attributes:
        radius: Least and largest radius.
        offset: Least and largest distance from the centre along each side, to either direction.
    """

    radius: tuple[float, float] = (0.55, 0.8)
    offset: tuple[float, float] = (0.0, 0.2)


FAR = Placement(radius=(0.22, 0.28), offset=(0.55, 0.7))


def generate_images(labels: Tensor, size: int, in_chans: int, generator: torch.Generator) -> Tensor:
    """Generate one image per label; returns uint8, (N, in_chans, size, size)."""
    return generate_masked_images(labels, size, in_chans, generator, Placement())[0]


def generate_masked_images(
    labels: Tensor, size: int, in_chans: int, generator: torch.Generator, placement: Placement
) -> tuple[Tensor, Tensor]:
    """Generate one image per label as `generate_images` does; returns also the objects' masks, (N, H, W)."""
    num = len(labels)
    uniform = partial(draw_uniform, num, generator)
    axis = torch.linspace(-1, 1, size)
    least, largest = placement.offset

    def offset() -> Tensor:
        signed = uniform(-1, 1, 1, 1)
        return signed.sign() * least + signed * (largest - least)

    radius, angle = uniform(*placement.radius, 1, 1), uniform(-0.3, 0.3, 1, 1)
    dx = (axis[None, None, :] - offset()) / radius
    dy = (axis[None, :, None] - offset()) / radius
    x, y = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
    inside = torch.stack(_masks(x, y), dim=1)[torch.arange(num), labels % len(SHAPES)]
    is_first = torch.zeros_like(inside)
    for texture in (labels // len(SHAPES)).unique().tolist():
        chosen = labels // len(SHAPES) == texture
        is_first[chosen] = _has_first_colour(texture, x[chosen], y[chosen])

    # A dark background and two bright colours for the shape, or the other way round.
    is_bright = torch.randint(2, (num, 1, 1, 1), generator=generator).bool()
    background = uniform(0.0, 0.3, in_chans, 1, 1)
    first, second = uniform(0.75, 1.0, in_chans, 1, 1), uniform(0.4, 0.55, in_chans, 1, 1)
    shape = torch.where(is_first[:, None], first, second)
    image = torch.where(inside[:, None], shape, background)
    image = torch.where(is_bright, 1 - image, image)
    image += 0.08 * torch.randn(image.shape, generator=generator)
    return (image.clamp_(0, 1) * 255).round_().to(torch.uint8), inside


def draw_uniform(
    num: int, generator: torch.Generator, low: float, high: float, *shape: int
) -> Tensor:
    """Draw numbers between low and high for each of some images, (num, *shape)."""
    return low + (high - low) * torch.rand(num, *shape, generator=generator)


def _masks(x: Tensor, y: Tensor) -> list[Tensor]:
    """Return one mask per shape, in the order of SHAPES; in x and y the shape has radius 1."""
    r = (x * x + y * y).sqrt()
    bar = (x.abs() < 1) & (y.abs() < 0.45)
    widest, narrowest = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    triangle = torch.maximum(y - 0.5, 0.866 * x.abs() - 0.5 * y - 0.5) < 0
    return [r < 0.9, bar, triangle, (r < 1) & (r > 0.5), (widest < 1) & (narrowest < 0.3)]


def _texture(texture: int) -> tuple[str, int]:
    """Return kind and periods of a texture: 0 is plain, then stripes and checks alternate, ever finer."""
    if texture == 0:
        return "plain", 0
    return ("stripes", "checks")[(texture - 1) % 2], 2 + (texture - 1) // 2


def _has_first_colour(texture: int, x: Tensor, y: Tensor) -> Tensor:
    """Return which points of a shape have the first of its two colours."""
    kind, periods = _texture(texture)
    if kind == "plain":
        return torch.ones_like(x, dtype=torch.bool)
    across = torch.sin(math.pi * periods * x) > 0
    return across if kind == "stripes" else across ^ (torch.sin(math.pi * periods * y) > 0)
