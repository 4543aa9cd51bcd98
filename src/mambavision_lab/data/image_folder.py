"""Your own images, in one folder per class.

`root/train/<class>/...` with `root/val/<class>/...` and `root/test/<class>/...` beside it, or simply
`root/<class>/...`. A val or test folder that is missing is replaced by `val_fraction` of each
training class, sampled by seed.
"""

from pathlib import Path
from typing import ClassVar

from mambavision_lab.data.class_folders import list_classes, list_images, training_folder
from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.image_files import Items
from mambavision_lab.data.splits import Splits, split_by_class
from mambavision_lab.errors import ConfigError


class ImageFolderDataModule(ImageFilesDataModule):
    """Images in one folder per class, named by the training folders.

    Settings as in `ImageFilesDataModule`.
    """

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
        return self.make_splits(items, class_names)

    def _hold_out(self, items: Items) -> tuple[Items, Items]:
        train, held_out = split_by_class(
            [label for _, label in items], self.val_fraction, self.seed
        )
        if not len(held_out):
            raise ConfigError(
                f"data.root={self.root}: no class has two images, so none can be held out; "
                "add images, or val/ and test/ folders"
            )
        return [items[i] for i in train], [items[i] for i in held_out]
