"""Your own images: in one folder per class, or listed in a CSV.

`root/train/<class>/...` with `root/val/<class>/...` and `root/test/<class>/...` beside it, or simply
`root/<class>/...`; the usual other names of the splits are understood, in any case. A val folder without
class folders needs a file of its labels. A CSV has the columns file and label, and perhaps split; with the
column labels in place of label an image has any number of classes, divided by ; or |. Val or test images
that are missing are replaced by `val_fraction` of each training class, sampled by seed.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from mambavision_lab.data.file_module import ImageFilesDataModule
from mambavision_lab.data.folder_listing import FolderListing
from mambavision_lab.data.splits import Splits
from mambavision_lab.errors import ConfigError


class ImageFolderDataModule(ImageFilesDataModule):
    """Images in one folder per class, named by the training folders; or in a CSV.

    Args:
        labels_file: As in `FolderListing`, which lists the images.
        is_multilabel: As there; the config reads it from the CSV.
        val_labels_file: As there.
        classes: As there.

    Other settings as in `ImageFilesDataModule`.
    """

    # Split -> the one whose folder holds it, where there is such a folder.
    folders: ClassVar[dict[str, str]] = {"test": "test", "val": "val"}

    def __init__(
        self,
        *,
        labels_file: str | None = None,
        is_multilabel: bool = False,
        val_labels_file: str | None = None,
        classes: str | Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        assert self.root is not None
        self.is_multilabel = is_multilabel
        self.listing = FolderListing(
            self.root,
            folders=self.folders,
            labels_file=labels_file,
            is_multilabel=is_multilabel,
            val_labels_file=val_labels_file,
            classes=classes,
            val_fraction=self.val_fraction,
            seed=self.seed,
        )
        if is_multilabel and self.sampler == "balanced":
            raise ConfigError(
                "data.sampler=balanced: an image of several classes cannot be given once for each; leave "
                "data.sampler=random, or weigh the classes by loss.pos_weight=balanced"
            )

    def load(self) -> Splits:
        """List the files and hold out what has no split of its own."""
        return self.make_splits(*self.listing.items())
