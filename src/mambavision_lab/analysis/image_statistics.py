"""Measure the images of a data module: sizes, channels, mean and std, damaged files, duplicates."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from itertools import chain, combinations_with_replacement
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from mambavision_lab.counting import counted
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.decode import decode, open_image
from mambavision_lab.data.encoded import EncodedImage
from mambavision_lab.data.image_files import ImageFiles, evaluation_transform
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.labelled_files import LabelledFiles
from mambavision_lab.data.mask_files import MaskFiles, stem_of
from mambavision_lab.data.workers import auto_workers
from mambavision_lab.errors import ConfigError

SPLITS = ("train", "val", "test")
_CHUNK = 1024  # images in memory that are summed up at once


@dataclass(frozen=True)
class ImageRecord:
    """What was found out about one image.

    Attributes:
        split: "train", "val" or "test".
        index: Its place there.
        name: Path of its file, or split[index].
        label: Its class, or all of its classes.
        error: Why it cannot be read, or None.
        digest: Hash of its file or, in memory, of its pixels.
        size: Width and height in pixels, upright.
        mode: File format and Pillow's mode, such as "JPEG RGB"; in memory the channels.
        moments: Of a training image the mean of the pixels in [0, 1] and that of their squares,
            (2, in_chans); of image files at the network's size, prepared as in validation.
    """

    split: str
    index: int
    name: str
    label: int | tuple[int, ...]
    error: str | None = None
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    moments: np.ndarray | None = None


@dataclass(frozen=True)
class Duplicates:
    """Images that are there twice.

    Attributes:
        splits: The split of the first and that of its copies, which may be the same.
        num: Copies.
        num_mislabelled: Copies whose class is another one.
        example: Name of an image and of a copy, of another class if there is such a copy.
    """

    splits: tuple[str, str]
    num: int
    num_mislabelled: int
    example: tuple[str, str]


def scan_images(data: ImageDataModule, num_scanned: int | None) -> list[ImageRecord]:
    """Look at the images of all splits: all in memory, evenly spaced ones of image files.

    Args:
        data: The data module.
        num_scanned: Files to decode, or None for all.
    """
    records: list[ImageRecord] = []
    files: list[tuple[str, LabelledFiles | MaskFiles, int]] = []
    for name in SPLITS:
        split = getattr(data.splits, name)
        if isinstance(split, LabelledFiles | MaskFiles):
            files += [(name, split, index) for index in range(len(split))]
        else:
            records += _scan_memory(name, split)
    if num_scanned is not None and num_scanned < len(files):
        chosen = np.linspace(0, len(files) - 1, num_scanned).round().astype(int)
        files = [files[index] for index in chosen]
    scan = partial(_scan_file, fit=evaluation_transform(data.image_size))
    with ThreadPool(auto_workers()) as pool:
        return records + pool.starmap(scan, files, chunksize=16)


def describe(data: ImageDataModule, records: Sequence[ImageRecord]) -> dict[str, Any]:
    """Summarise the images of a data module as plain values.

    Args:
        data: The data module.
        records: Of all its images, or of those that were scanned.
    """
    readable = [record for record in records if record.error is None]
    mean, std = mean_and_std([r.moments for r in readable if r.moments is not None])
    return {
        "images": {name: len(getattr(data.splits, name)) for name in SPLITS},
        "classes": count_classes(data, records),
        "scanned": len(records),
        "width": _spread([r.size[0] for r in readable]),
        "height": _spread([r.size[1] for r in readable]),
        "modes": dict(Counter(r.mode for r in readable).most_common()),
        "mean": mean,
        "std": std,
        "unreadable": {r.name: r.error for r in records if r.error is not None},
        "duplicates": [asdict(found) for found in find_duplicates(readable)],
    }


def count_classes(
    data: ImageDataModule, records: Sequence[ImageRecord]
) -> dict[str, dict[str, int]]:
    """Count the images of each class by split, readable or not; of masks those in which it was found."""
    labels = {
        name: [*chain(*(r.label for r in records if r.split == name))]  # type: ignore[arg-type]
        if data.has_masks
        else _labels(getattr(data.splits, name))
        for name in SPLITS
    }
    counts = {
        name: np.bincount(np.array(own, dtype=int), minlength=data.num_classes)
        for name, own in labels.items()
    }
    return {
        class_name: {name: int(counts[name][label]) for name in SPLITS}
        for label, class_name in enumerate(data.class_names)
    }


def mean_and_std(moments: Sequence[np.ndarray]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel over images, from the moments of each."""
    mean, square = np.mean(moments, axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.round(4).tolist(), std.round(4).tolist()


def find_duplicates(records: Sequence[ImageRecord]) -> list[Duplicates]:
    """Find images of equal content, within each split and across each two."""
    groups: dict[bytes, list[ImageRecord]] = defaultdict(list)
    for record in records:
        groups[record.digest].append(record)
    pairs: dict[tuple[str, str], list[tuple[ImageRecord, ImageRecord]]] = defaultdict(list)
    for group in groups.values():
        if len(group) == 1:
            continue
        by_split = {name: [r for r in group if r.split == name] for name in SPLITS}
        for one, other in combinations_with_replacement(SPLITS, 2):
            if found := by_split[one]:
                copies = found[1:] if one == other else by_split[other]
                pairs[one, other] += [(found[0], copy) for copy in copies]
    return [_summarise(splits, found) for splits, found in pairs.items() if found]


def _summarise(splits: tuple[str, str], pairs: list[tuple[ImageRecord, ImageRecord]]) -> Duplicates:
    mislabelled = [(first, copy) for first, copy in pairs if first.label != copy.label]
    first, copy = (mislabelled or pairs)[0]
    return Duplicates(splits, len(pairs), len(mislabelled), (first.name, copy.name))


def _spread(values: list[int]) -> list[int]:
    """Return the smallest, the median and the largest value."""
    return [min(values), int(np.median(values)), max(values)]


def _labels(split: Any) -> np.ndarray:
    """List the classes of all images, of several labels one after the other."""
    if isinstance(split, LabelledFiles):
        labels = [label for _, label in split.items]
        return np.array([*chain(*labels)] if split.num_classes else labels, dtype=int)
    assert isinstance(split, InMemoryImages)
    return split.labels.numpy()


def _scan_memory(split: str, data: Any) -> Iterator[ImageRecord]:
    assert isinstance(data, InMemoryImages)
    height, width = data.images.shape[-2:]
    mode = f"{_shape(data.images[0])} in memory"
    labels = data.labels.tolist() if data.labels.ndim < 3 else [*map(classes_in, data.labels)]
    chunks = data.images.split(_CHUNK) if split == "train" else ()
    moments = [row for chunk in chunks for row in _moments(chunk).numpy()]
    for i, image in enumerate(data.images.numpy()):
        yield ImageRecord(
            split,
            i,
            f"{split}[{i}]",
            labels[i],
            digest=_digest(image.tobytes()),
            size=(width, height),
            mode=mode,
            moments=moments[i] if moments else None,
        )


def classes_in(mask: Tensor) -> tuple[int, ...]:
    """List the classes that a mask has."""
    return tuple(mask.unique().tolist())


def _scan_file(
    split: str, files: LabelledFiles | MaskFiles, index: int, fit: v2.Transform
) -> ImageRecord:
    if not isinstance(files, ImageFiles):
        return _scan_pixels(split, files, index)
    source, label = files.items[index]
    name = str(source)
    try:
        pixels = decode(source, files.in_chans, files.value_range, files.background)
    except ConfigError as error:
        return ImageRecord(split, index, name, label, str(error))
    encoded = source.read() if isinstance(source, EncodedImage) else Path(source).read_bytes()
    with open_image(encoded) as image:
        mode = f"{image.format} {image.mode}"
    return ImageRecord(
        split,
        index,
        name,
        label,
        digest=_digest(encoded),
        size=(pixels.shape[2], pixels.shape[1]),
        mode=mode,
        moments=_moments(fit(pixels)[None])[0].numpy() if split == "train" else None,
    )


def _scan_pixels(split: str, files: Any, index: int) -> ImageRecord:
    """Look at a volume or clip as the network receives it, or at what has a mask, at its own size."""
    has_mask = isinstance(files, MaskFiles)
    path, label = (files.pairs[index][0], ()) if has_mask else files.items[index]
    try:
        pixels, target = files.load(index) if has_mask else files[index]
    except ConfigError as error:
        return ImageRecord(split, index, path, label, str(error))
    file = Path(path)
    is_file = file.is_file()
    suffix = file.name.removeprefix(stem_of(file)) if is_file else "folder"
    return ImageRecord(
        split,
        index,
        path,
        classes_in(target) if has_mask else label,
        digest=_digest(file.read_bytes() if is_file else pixels.numpy().tobytes()),
        size=(pixels.shape[-1], pixels.shape[-2]),
        mode=f"{suffix}, {_shape(pixels)}",
        moments=_moments(pixels[None])[0].numpy() if split == "train" else None,
    )


def _shape(pixels: Tensor) -> str:
    """Say how many channels, and slices or frames, there are."""
    chans, *slices = pixels.shape[:-2]
    words = counted(chans, "channels")
    return f"{words}, {counted(slices[0], 'slices')}" if slices else words


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _moments(images: Tensor) -> Tensor:
    """Return the mean of the pixels of each image and that of their squares, (N, 2, C)."""
    scaled = images.flatten(2).double() / 255
    return torch.stack([scaled.mean(2), scaled.square().mean(2)], dim=1)
