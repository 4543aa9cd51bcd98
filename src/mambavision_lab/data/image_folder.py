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
from mambavision_lab.data.folder_listing import listing_of
from mambavision_lab.data.listing import FOLDERS
from mambavision_lab.data.splits import Splits


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
    folders: ClassVar[dict[str, str]] = FOLDERS

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
        self.is_multilabel = is_multilabel
        self.listing = listing_of(
            self,
            folders=self.folders,
            labels_file=labels_file,
            val_labels_file=val_labels_file,
            classes=classes,
        )

    def load(self) -> Splits:
        """List the files and hold out what has no split of its own."""
        return self.make_splits(*self.listing.items())
