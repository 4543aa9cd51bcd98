"""ImageNet-1K in class folders, `root/train/<wnid>` and `root/val/<wnid>`.

Results are reported on the official validation images, so these are the test split here; checkpoints
are chosen on a small part held out of the training images, by seed.

Source: Russakovsky et al. 2014, arXiv:1409.0575.
"""

from typing import ClassVar

from mambavision_lab.data.image_folder import ImageFolderDataModule


class ImageNetDataModule(ImageFolderDataModule):
    """ImageNet-1K; settings as in `ImageDataModule`."""

    folders: ClassVar[dict[str, str]] = {"test": "val"}
