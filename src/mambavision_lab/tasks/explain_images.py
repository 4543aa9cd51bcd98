"""The images that explain.py shows: files that the user names, or test images of the run's data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.tasks.build import build_data
from mambavision_lab.tasks.console import console, name_below, printable
from mambavision_lab.tasks.predict import find_images


@dataclass(frozen=True)
class NamedImage:
    """An image, volume or clip to explain.

    Attributes:
        name: Of its file, or its place among the test images.
        pixels: Prepared, uint8 (C, H, W) or (C, D, H, W).
        true: Its class, or None where it is not known.
    """

    name: str
    pixels: Tensor
    true: str | None


def read_images(
    images: str, inference: MambaVisionInference, count: int
) -> tuple[list[NamedImage], dict[str, str]]:
    """Read the first files that can be read.

    Returns:
        The images, and why each file that was skipped cannot be read. A file's class is the name of its
        folder, where the network knows a class of that name.

    Raises:
        ConfigError: There are no files, or none can be read.
    """
    found: list[NamedImage] = []
    skipped: dict[str, str] = {}
    files = find_images(images, inference.preparation.kind)
    for name in files:
        try:
            pixels = inference.prepare(name)
        except ConfigError as error:
            skipped[name] = str(error)
            console.print(f"skipped: {printable(error)}", soft_wrap=True)
            continue
        folder = Path(name).absolute().parent.name
        true = folder if folder in (inference.class_names or []) else None
        found.append(NamedImage(name_below(images, name), pixels, true))
        if len(found) == count:
            break
    if not found:
        raise ConfigError(f"images={images}: none of the files can be read; see above")
    return found, skipped


def open_data(cfg: DictConfig, inference: MambaVisionInference) -> ImageDataModule:
    """Make the data module of the run, which prepares images as the network's were.

    Raises:
        ConfigError: The data cannot be had.
    """
    if cfg.data is None:
        raise ConfigError("the run stored no data; give images=FOLDER")
    data = build_data(cfg)
    data.use_preprocessing(inference.description["preprocessing"])
    return data


def test_images(data: ImageDataModule, count: int) -> Iterator[NamedImage]:
    """Yield test images, evenly spaced, so that all classes are among them where they are in order."""
    test: Any = data.splits.test
    total = len(test)
    for i in range(min(count, total)):
        index = i * total // min(count, total)
        pixels, label = test[index]
        true = None if data.is_multilabel else data.class_names[int(label)]
        kind = "image" if pixels.ndim == 3 else "volume"
        yield NamedImage(f"test {kind} {index}", pixels, true)
