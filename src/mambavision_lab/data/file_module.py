"""The base of data modules whose images are files: how files are read, and what if one cannot be."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from mambavision_lab.data.cached_files import Finished, ForCrops, check_cache, open_cache
from mambavision_lab.data.checked_files import CheckedFiles
from mambavision_lab.data.decode import Colour
from mambavision_lab.data.image_files import (
    CROP_FRACTION,
    ImageFiles,
    evaluation_transform,
    measure_value_range,
    training_transform,
)
from mambavision_lab.data.random_crop import RandomCrop
from mambavision_lab.data.settings import check_crop_fraction
from mambavision_lab.data.splits import Items, Splits
from mambavision_lab.data.value_range import ValueRange, union
from mambavision_lab.data.workers import auto_workers
from mambavision_lab.errors import ConfigError

log = logging.getLogger(__name__)


class ImageFilesDataModule(CheckedFiles):
    """Base of the data modules of image files; a subclass lists them in `load` and calls `make_splits`.

    Args:
        value_range: Black and white of images of more than 8 bits: [low, high], a number of bits, "bits"
            for what each file states, else all its 16 bits, or "auto" for that where each training file
            states it, else for the smallest and largest value of the training images.
        crop_fraction: Share of an image's shorter side that evaluation looks at, above 0 and at most 1.
        background: What transparent pixels are composited on, from 0 to 255: grey, or red, green, blue.
        check_files: Whether a training decodes every file once before it starts, and lists those that
            cannot be read.
        cache: "memory" or "disk" to decode each training and validation image once, before the first epoch,
            and keep it resized (see `cached_files.py`); None to decode it in each epoch. On disk it serves
            later runs too. It is made anew when files or settings have changed.
        cache_dir: Folder of the cache on disk.
        on_bad_image: "error" to end with that list, "skip" to leave them out; one that turns bad later
            is an error.

    Other settings as in `ImageDataModule`.
    """

    keeps_aspect: ClassVar[bool] = True
    checked = "of the image files"
    advice = "remove them, or train with data.on_bad_image=skip"

    def __init__(
        self,
        *,
        root: str,
        image_size: int,
        in_chans: int,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        flip_keeps_class: bool = True,
        batch_size: int = 128,
        global_batch_size: int | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        sampler: str = "random",
        augment: nn.Module | None = None,
        num_workers: int | None = None,
        worker_timeout_s: float = 600,
        value_range: str | int | Sequence[float] = "auto",
        crop_fraction: float = CROP_FRACTION,
        background: int | Sequence[int] = 255,
        check_files: bool = True,
        on_bad_image: str = "error",
        cache: str | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            root=root,
            image_size=image_size,
            in_chans=in_chans,
            num_classes=num_classes,
            mean=mean,
            std=std,
            flip_keeps_class=flip_keeps_class,
            batch_size=batch_size,
            global_batch_size=global_batch_size,
            val_fraction=val_fraction,
            seed=seed,
            sampler=sampler,
            augment=augment,
            num_workers=num_workers,
            worker_timeout_s=worker_timeout_s,
        )
        self.is_range_measured = value_range == "auto"
        self.value_range = None if value_range in ("auto", "bits") else _as_range(value_range)
        check_crop_fraction(crop_fraction)
        self.crop_fraction = crop_fraction
        self.background = _as_colour(background)
        if on_bad_image not in ("error", "skip"):
            raise ConfigError(f"data.on_bad_image={on_bad_image}: choose error or skip")
        if on_bad_image == "skip" and not check_files:
            raise ConfigError("data.on_bad_image=skip skips what data.check_files=true finds")
        self.check_files, self.on_bad_image = check_files, on_bad_image
        check_cache(cache, cache_dir)
        self.cache, self.cache_dir = cache, cache_dir
        self.skipped: dict[str, str] = {}

    def make_splits(self, items: Mapping[str, Items], class_names: list[str]) -> Splits:
        """Make the splits of the files listed for train, val and test, without those to be skipped."""
        if self.is_range_measured:
            self.value_range = measure_value_range(items["train"], auto_workers())
            self.is_range_measured = False
        scale = getattr(self.augment, "crop_scale", None)
        interpolation = getattr(self.augment, "crop_interpolation", "bilinear")
        crop = training_transform(self.image_size, scale, interpolation)
        centre = evaluation_transform(self.image_size, self.crop_fraction)
        train, val, test = (
            ImageFiles(
                items[name],
                self.in_chans,
                fit,
                self.value_range,
                self.background,
                len(class_names) if self.is_multilabel else None,
            )
            for name, fit in (("train", crop), ("val", centre), ("test", centre))
        )
        splits = Splits(train, val, test, class_names)
        if self.on_bad_image == "skip":
            self._skip(splits)
        return splits

    def use_preprocessing(self, trained: Mapping[str, Any]) -> None:
        """Use the range that was measured for a network's training, where it is to be measured."""
        super().use_preprocessing(trained)
        if self.is_range_measured:
            saved = trained.get("value_range")  # older checkpoints have none: all 16 bits
            self.value_range = _as_range(saved) if saved else None
            self.is_range_measured = False

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        plain = super().metadata()  # loads the splits, which measures the range
        value_range = list(self.value_range) if self.value_range else None
        kept = {"crop_fraction": self.crop_fraction, "background": list(self.background)}
        return plain | {"value_range": value_range} | kept

    def _prepare_files(self) -> None:
        super()._prepare_files()
        self._open_caches()

    def setup(self, stage: str) -> None:
        """List the files, and open the cache for a training."""
        super().setup(stage)
        if stage == "fit":
            self._open_caches()

    def find_bad_images(self) -> dict[str, str]:
        """Decode all files of the splits; returns why each that cannot be read cannot, by path."""
        return self._check(self.splits)

    def teardown(self, stage: str) -> None:
        """List at the end of a training what was skipped."""
        if stage == "fit" and self.skipped:
            self._list(self.skipped, "skipped")

    def _refuse_bad_images(self) -> None:
        if self.on_bad_image != "skip":
            super()._refuse_bad_images()

    def _open_caches(self) -> None:
        if self.cache is None:
            return
        finished = Finished(self.image_size, self.crop_fraction)
        for split in (self.splits.train, self.splits.val):
            assert isinstance(split, ImageFiles)
            if split.items and split.cache is None:
                is_cropped = isinstance(split.transform, RandomCrop)
                split.cache = open_cache(
                    split,
                    ForCrops(self.image_size) if is_cropped else finished,
                    self.cache,
                    Path(self.cache_dir or ""),
                    auto_workers(),
                    self._refuse_bad_images,
                )

    def _check(self, splits: Splits) -> dict[str, str]:
        bad: dict[str, str] = {}
        extents = []
        for split in (splits.train, splits.val, splits.test):
            assert isinstance(split, ImageFiles)
            found, extent = split.check()
            bad |= found
            extents += [extent] if extent else []
        low, high = union(extents) or (0, 255)
        if high - low < 256 / 16:
            self._warn_of_range()
        return bad

    def _skip(self, splits: Splits) -> None:
        self.skipped = self._check(splits)
        for name in ("train", "val", "test"):
            split = getattr(splits, name)
            left = [item for item in split.items if str(item[0]) not in self.skipped]
            if split.items and not left:
                raise ConfigError(f"data.root={self.root}: none of the {name} images can be read")
            split.items = left
        if self.skipped:
            self._list(self.skipped, "skipped")

    @rank_zero_only
    def _warn_of_range(self) -> None:
        given = list(self.value_range) if self.value_range else "all bits of the files"
        log.warning(
            "data.root=%s: no image fills a sixteenth of the range of values (%s), the network sees "
            "next to nothing; give data.value_range=[LOW,HIGH], the values of black and white",
            self.root,
            given,
        )


def _as_range(given: Any) -> ValueRange:
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= 32:
        return 0.0, 2.0**given - 1
    values = list(given) if isinstance(given, list | tuple) else []
    is_range = len(values) == 2 and all(isinstance(value, int | float) for value in values)
    if not is_range or not -math.inf < values[0] < values[1] < math.inf:
        raise ConfigError(
            f"data.value_range={given}: wanted auto, bits, a number of bits, or [LOW,HIGH]"
        )
    return float(values[0]), float(values[1])


def _as_colour(given: Any) -> Colour:
    levels = list(given) if isinstance(given, list | tuple) else [given] * 3
    if len(levels) != 3 or not all(isinstance(x, int) and 0 <= x <= 255 for x in levels):
        raise ConfigError(
            f"data.background={given}: wanted a grey level from 0 to 255, or [RED,GREEN,BLUE]"
        )
    return levels[0], levels[1], levels[2]
