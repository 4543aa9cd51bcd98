"""Image files as a data set, a check of them, and the transforms that bring any size to the network's."""

from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.cache import ImageCache
from mambavision_lab.data.checked_files import check_all, errors_by_name
from mambavision_lab.data.decode import (
    WHITE,
    Colour,
    Shrink,
    decode,
    open_image,
    read_source,
    to_an_eighth,
)
from mambavision_lab.data.labelled_files import LabelledFiles
from mambavision_lab.data.random_crop import RandomCrop
from mambavision_lab.data.splits import Items
from mambavision_lab.data.value_range import ValueRange, extent, is_deep, read_values, union

CROP_FRACTION = 0.875  # of the shorter side, as in the literature on ImageNet

Transform = RandomCrop | Callable[[Tensor], Tensor]

MAX_ASPECT = 4
_MAX_MEASURED = 1000  # files
_OUTLIERS = 0.001  # share of an image's pixels


class ImageFiles(LabelledFiles):
    """Image files, each decoded and transformed when it is read.

    Args:
        items: Paths, or what else `decode` reads, and labels: one, or a tuple of any number.
        in_chans: 1 for grey, 3 for colour.
        transform: From a uint8 image (C, H, W) to one of the network's size, or a `RandomCrop` to it.
        value_range: As in `decode`.
        background: As in `decode`.
        num_classes: Where an image has any number of labels, which are given as 0 or 1 for each class.

    Attributes:
        cache: The images as they are decoded for a random crop, or as another transform leaves them.
        blocks: Where images are read in blocks, the number of that which each is in; see `BlockShuffle`.
    """

    def __init__(
        self,
        items: Items,
        in_chans: int,
        transform: Transform,
        value_range: ValueRange | None = None,
        background: Colour = WHITE,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(items, num_classes)
        self.in_chans, self.transform = in_chans, transform
        self.value_range, self.background = value_range, background
        self.cache: ImageCache | None = None
        self.blocks: Sequence[int] | None = None

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        path, _ = self.items[index]
        label = self.label(index)
        cached = None if self.cache is None else self.cache[index]
        if isinstance(self.transform, RandomCrop):
            crop = self.transform.draw()
            return crop(self.decode(path, crop.shrink) if cached is None else cached), label
        return self.transform(self.decode(path)) if cached is None else cached, label

    def check(self) -> tuple[dict[str, str], ValueRange | None]:
        """Decode every file once, JPEGs at an eighth of their size.

        Returns:
            Why each file that cannot be read cannot, by path; and the darkest and the brightest of the
            uint8 pixels of the others, without outliers.
        """
        paths = [path for path, _ in self.items]
        found = check_all(self._extent, paths)
        return errors_by_name(paths, found), union(x for x in found if isinstance(x, tuple))

    def _extent(self, path: Any) -> ValueRange:
        pixels = self.decode(path, to_an_eighth)
        shares = pixels.flatten().bincount(minlength=256).cumsum(0) / pixels.numel()
        return (
            float((shares <= _OUTLIERS).sum()),
            float((shares < 1 - _OUTLIERS).sum()),
        )

    def decode(self, path: Any, shrink: Shrink | None = None) -> Tensor:
        """Return the pixels of an image, (in_chans, H, W), with the settings of these files."""
        return decode(path, self.in_chans, self.value_range, self.background, shrink=shrink)


def measure_value_range(items: Items, num_threads: int) -> ValueRange | None:
    """Find the smallest and largest value of the images of more than 8 bits, in at most 1000 files.

    Returns:
        None where there are no such images, or each states its range. Files that cannot be read are left
        out.
    """
    step = -(-len(items) // _MAX_MEASURED) or 1
    with ThreadPool(num_threads) as pool:
        found = pool.map(_measure, [path for path, _ in items[::step]], chunksize=16)
    deep = [result for result in found if result is not None]
    if all(is_stated for _, is_stated in deep):
        return None
    low_high = union(values for values, _ in deep)
    return low_high if low_high and low_high[0] < low_high[1] else None


def _measure(path: Any) -> tuple[ValueRange, bool] | None:
    """Return the extent of a deep image's values, and whether the file states their range."""
    try:
        with open_image(read_source(path)) as image:
            if not is_deep(image):
                return None
            values, stated = read_values(image)
    except Exception:  # of all kinds, on damaged files; who reads the file reports it
        return None
    found = extent(values)
    return (found, stated is not None) if found else None


def evaluation_transform(image_size: int, crop_fraction: float = CROP_FRACTION) -> v2.Transform:
    """Resize the shorter side so that image_size is crop_fraction of it (224 of 256), and take the centre."""
    resize = v2.Resize(round(image_size / crop_fraction), antialias=True)
    return v2.Compose([v2.Lambda(cut_ends), resize, v2.CenterCrop(image_size)])


def training_transform(
    image_size: int, crop_scale: Sequence[float] | None, interpolation: str = "bilinear"
) -> Transform:
    """Crop a random part of the image, or take its centre where crop_scale is None.

    Args:
        image_size: Pixels per side.
        crop_scale: Smallest and largest share of the image's area.
        interpolation: As in `RandomCrop`.
    """
    if crop_scale is None:
        return evaluation_transform(image_size)
    return RandomCrop(image_size, crop_scale, interpolation)


def cut_ends(pixels: Tensor) -> Tensor:
    """Cut the ends of a strip, far outside the centre, which would be enlarged with the rest."""
    longest = MAX_ASPECT * min(pixels.shape[-2:])
    if max(pixels.shape[-2:]) <= longest:
        return pixels
    return TF.center_crop(pixels, [min(side, longest) for side in pixels.shape[-2:]])
