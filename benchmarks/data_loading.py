"""Time input pipelines on one core: python benchmarks/data_loading.py (about five minutes).

JPEG photographs of 500 x 375 pixels (scikit-learn's two, cropped and resized, quality 90) to normalised
batches of random-resized crops of 224 with flips: the classic pipeline of torchvision with Pillow, timm's
`create_loader`, ours with simplejpeg, with Pillow and from the cache, and the decoder alone. Then batches
of the shape of CIFAR with shifts, flips, erasing and normalisation: the per-image pipeline of torchvision,
and ours. All contenders of a table take turns, without workers. At last the share of time that short
trainings on sets in memory wait for their data, on all cores. Needs the extras digits and jpeg.
"""

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import simplejpeg
import timm
import torch
import torchvision
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from timing import interleave
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from mambavision_lab import create_datamodule
from mambavision_lab.data import jpeg
from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.splits import Splits

ROOT = Path(__file__).resolve().parents[1]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_PHOTOGRAPHS, PHOTOGRAPH_BATCH = 256, 64
NUM_SMALL, SMALL_BATCH = 8192, 512
CROP_SCALE = (0.08, 1.0)


def write_photographs(root: Path) -> list[Path]:
    """Write photographs in two classes."""
    rng = np.random.default_rng(0)
    originals = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    paths = []
    for k in range(NUM_PHOTOGRAPHS):
        image = originals[k % 2]
        width = int(rng.integers(440, 568))
        height = width * 3 // 4
        left, top = (int(rng.integers(0, room + 1)) for room in (640 - width, 427 - height))
        paths.append(root / "train" / f"class{k % 2}" / f"{k}.jpg")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        part = image.crop((left, top, left + width, top + height))
        part.resize((500, 375), Image.Resampling.LANCZOS).save(paths[-1], quality=90)
    return paths


def decode(paths: list[Path]) -> list[np.ndarray]:
    """Decode files and nothing else."""
    return [simplejpeg.decode_jpeg(path.read_bytes()) for path in paths]


def check_decoders(paths: list[Path]) -> None:
    """Compare the decoders.

    Raises:
        SystemExit: They differ by more than rounding.
    """
    for path, pixels in zip(paths, decode(paths), strict=True):
        if np.abs(pixels.astype(int) - np.asarray(Image.open(path))).max() > 1:
            raise SystemExit(f"{path}: simplejpeg and Pillow give different pixels")


def consume(batches: Iterable[Any]) -> None:
    """Run through an epoch."""
    for images, _ in batches:
        assert images.dtype == torch.float32


def prepared(data: ImageDataModule) -> Iterator[Any]:
    """Iterate over an epoch of batches as the network gets them."""
    for batch in data.train_dataloader():
        yield data.prepare_batch(batch, is_training=True)


def classic_loader(root: Path) -> DataLoader:
    """Make the pipeline of torchvision's references."""
    steps = [
        transforms.RandomResizedCrop(224, scale=CROP_SCALE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    images = ImageFolder(str(root / "train"), transforms.Compose(steps))
    return DataLoader(images, PHOTOGRAPH_BATCH, shuffle=True)


def timm_loader(root: Path) -> Iterable[Any]:
    """Make timm's loader with the same steps."""
    return timm.data.create_loader(
        timm.data.create_dataset("", root=str(root), split="train"),
        input_size=(3, 224, 224),
        batch_size=PHOTOGRAPH_BATCH,
        is_training=True,
        use_prefetcher=False,
        scale=CROP_SCALE,
        color_jitter=None,
        interpolation="bilinear",
        num_workers=0,
        persistent_workers=False,
    )


def our_photographs(root: Path, cache: str | None) -> ImageDataModule:
    """Make our data module with the same steps."""
    data = create_datamodule(
        "image_folder",
        root=root,
        augment=Augment(horizontal_flip=True, crop_scale=list(CROP_SCALE)),
        batch_size=PHOTOGRAPH_BATCH,
        val_fraction=0.01,
        num_workers=0,
        check_files=False,
        cache=cache,
        cache_dir=str(root / "cache"),
    )
    data.setup("fit")
    return data


def without_simplejpeg(call: Callable[[], None]) -> Callable[[], None]:
    """Let Pillow decode within a call."""

    def run() -> None:
        fast, jpeg.simplejpeg = jpeg.simplejpeg, None
        try:
            call()
        finally:
            jpeg.simplejpeg = fast

    return run


class SmallImages(Dataset):
    """Images of CIFAR's shape, one by one, as torchvision's data sets give them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
                transforms.RandomErasing(0.25),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), 0


def our_small_images(images: Tensor) -> ImageDataModule:
    """Make our data module of the same images and steps."""
    augment = Augment(horizontal_flip=True, shift=0.125, erasing=0.25)
    data = create_datamodule("cifar10", augment=augment, batch_size=SMALL_BATCH)
    held = InMemoryImages(images, torch.zeros(len(images), dtype=torch.int64))
    data._splits = Splits(held, held, held, [str(k) for k in range(10)])
    return data


def print_table(
    title: str, seconds: dict[str, list[float]], num: int, baselines: list[str]
) -> None:
    """Print the time of an image, its rate, and how many times faster than the baselines it is."""
    table = Table(title=title)
    for heading in ("contender", "us/image", "spread", "images/s", *(f"x {b}" for b in baselines)):
        table.add_column(heading, justify="right" if heading != "contender" else "left")
    for name, times in seconds.items():
        median = statistics.median(times)
        ratios = [
            statistics.median(map(float.__truediv__, seconds[base], times)) for base in baselines
        ]
        table.add_row(
            name,
            f"{1e6 * median / num:.0f}",
            f"± {(max(times) - min(times)) / 2 / median:.0%}",
            f"{num / median:,.0f}",
            *(f"{ratio:.2f}" for ratio in ratios),
        )
    console.print(table)


def measure_wait(overrides: list[str]) -> tuple[float, float]:
    """Train for two short epochs; returns the share of the second's time waited, and its images/s."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", f"paths.log_dir={folder}", "callbacks=default"]
        command += ["trainer.max_epochs=2", "trainer.limit_train_batches=60", *overrides]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        (path,) = (p for p in Path(folder).rglob("metrics.csv") if not p.is_symlink())
        with path.open() as file:
            rows = [row for row in csv.DictReader(file) if row["train/data_wait"]]
        return float(rows[-1]["train/data_wait"]), float(rows[-1]["train/images_per_s"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sets", nargs="*", default=["digits", "synthetic", "fashion_mnist"])
    parser.add_argument("--model", default="mambavision_micro")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console.print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}, "
        f"Pillow {PIL.__version__}, simplejpeg {simplejpeg.__version__}, Python "
        f"{platform.python_version()}, one thread of {os.cpu_count()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = write_photographs(root)
        check_decoders(paths)
        classic, theirs = classic_loader(root), timm_loader(root)
        ours, cached = our_photographs(root, None), our_photographs(root, "disk")
        seconds = interleave(
            {
                "torchvision, classic": lambda: consume(classic),
                "timm": lambda: consume(theirs),
                "ours, Pillow": without_simplejpeg(lambda: consume(prepared(ours))),
                "ours": lambda: consume(prepared(ours)),
                "ours, loader alone": lambda: consume_uint8(ours),
                "ours, cached": lambda: consume(prepared(cached)),
                "ours, cached, loader alone": lambda: consume_uint8(cached),
                "decoder alone": lambda: decode(paths),
            },
            arguments.rounds,
        )
    baselines = ["torchvision, classic", "timm", "decoder alone"]
    print_table("photographs of 500 x 375", seconds, NUM_PHOTOGRAPHS, baselines)
    images = torch.randint(256, (NUM_SMALL, 3, 32, 32), dtype=torch.uint8)
    per_image = DataLoader(SmallImages(images), SMALL_BATCH, shuffle=True)
    small = our_small_images(images)
    seconds = interleave(
        {
            "per image": lambda: consume(per_image),
            "ours": lambda: consume(prepared(small)),
        },
        arguments.rounds,
    )
    print_table("images of 3 x 32 x 32", seconds, NUM_SMALL, ["per image"])
    table = Table(title=f"waiting for data, {arguments.model}, all cores")
    for heading in ("data", "images/s", "waits"):
        table.add_column(heading)
    for name in arguments.sets:
        share, speed = measure_wait([f"data={name}", f"model={arguments.model}"])
        table.add_row(name, f"{speed:,.0f}", f"{share:.2%}")
    console.print(table)


def consume_uint8(data: ImageDataModule) -> None:
    """Run through an epoch of the loader, without augmentation in batches and normalisation."""
    for images, *_ in data.train_dataloader():
        assert images.dtype == torch.uint8


console = Console(width=None if sys.stdout.isatty() else 160)

if __name__ == "__main__":
    main()
