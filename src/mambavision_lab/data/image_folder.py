"""Your own images, in one folder per class.

`root/train/<class>/...` with `root/val/<class>/...` and `root/test/<class>/...` beside it, or simply
`root/<class>/...`. A val or test folder that is missing is replaced by `val_fraction` of each
training class, drawn by seed.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from mambavision_lab.data.base import ImageDataModule, Splits, split_by_class
from mambavision_lab.data.class_folders import list_classes, list_images, training_folder
from mambavision_lab.errors import ConfigError

Items = list[tuple[str, int]]


class ImageFiles(Dataset):
    """Image files, decoded and brought to one size when asked for.

    Args:
        items: Paths and labels.
        in_chans: 1 for grey, 3 for colour.
        transform: From a uint8 image (C, H, W) to one of the wanted size.
    """

    def __init__(self, items: Items, in_chans: int, transform: v2.Transform) -> None:
        self.items, self.in_chans, self.transform = items, in_chans, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        try:
            with Image.open(path) as image:
                pixels = np.array(_eight_bit(image).convert("L" if self.in_chans == 1 else "RGB"))
        # Pillow's readers raise all of these on files that are not what they seem.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ConfigError(f"{path}: cannot be read as an image ({error}); remove it") from error
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        return self.transform(torch.from_numpy(pixels).permute(2, 0, 1)), label


class ImageFolderDataModule(ImageDataModule):
    """Images from class folders; the classes are the training folder's; settings as in `ImageDataModule`."""

    # Split -> folder under root that holds it, where it exists.
    folders: ClassVar[dict[str, str]] = {"val": "val", "test": "test"}

    def load(self) -> Splits:
        """List the files and hold out what has no folder of its own."""
        assert self.root is not None
        source = training_folder(self.root)
        class_names = list_classes(source)
        items = {"train": list_images(source, class_names)}
        for split, name in self.folders.items():
            folder = Path(self.root) / name
            if source != Path(self.root) and folder.is_dir():
                items[split] = list_images(folder, class_names)
        for split in ("test", "val"):
            if split not in items:
                items["train"], items[split] = self._hold_out(items["train"])
        augmenting = self._training_transform()
        plain = evaluation_transform(self.image_size)
        return Splits(
            train=ImageFiles(items["train"], self.in_chans, augmenting or plain),
            val=ImageFiles(items["val"], self.in_chans, plain),
            test=ImageFiles(items["test"], self.in_chans, plain),
            class_names=class_names,
        )

    def _hold_out(self, items: Items) -> tuple[Items, Items]:
        kept, held_out = split_by_class([label for _, label in items], self.val_fraction, self.seed)
        if not len(held_out):
            raise ConfigError(
                f"data.root={self.root}: no class has two images, so none can be held out; "
                "add images, or val/ and test/ folders"
            )
        return [items[i] for i in kept], [items[i] for i in held_out]

    def _training_transform(self) -> v2.Transform | None:
        scale = getattr(self.augment, "crop_scale", None)
        if scale is None:
            return None
        return v2.RandomResizedCrop(self.image_size, scale=tuple(scale), antialias=True)


def _eight_bit(image: Image.Image) -> Image.Image:
    """A 16-bit grey image scaled to 8 bits, which Pillow's own conversion would clip."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))


def evaluation_transform(image_size: int) -> v2.Transform:
    """Resize the shorter side to 8/7 of image_size (256 at 224) and take the centre."""
    return v2.Compose(
        [v2.Resize(round(image_size * 8 / 7), antialias=True), v2.CenterCrop(image_size)]
    )
