"""Read all files of a data set before a training starts, and list those that cannot be read."""

import logging
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any, ClassVar, TypeVar

from lightning.pytorch.utilities import rank_zero_only

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.folders import IMAGES, FileKind
from mambavision_lab.data.progress import track
from mambavision_lab.data.workers import auto_workers
from mambavision_lab.errors import ConfigError

T = TypeVar("T")

log = logging.getLogger(__name__)


class CheckedFiles(ImageDataModule):
    """Base of the data modules of files; a subclass reads all of them in `find_bad_images`.

    Attributes:
        kind: What the files are.
        checked: What messages call them.
        advice: What to do about those that cannot be read.
        check_files: Whether a training reads all before it starts.
    """

    kind: ClassVar[FileKind] = IMAGES
    advice: ClassVar[str] = "correct or remove them"
    check_files: bool
    _is_checked = False

    @property
    def checked(self) -> str:
        """What messages call the files."""
        return f"of the {self.kind.noun}"

    def prepare_data(self) -> None:
        """Check all files at the start of a training, once.

        Raises:
            ConfigError: Some cannot be read; the log lists all.
        """
        # The processes of a run follow one that has called this without a trainer.
        if self.trainer is None or (self.trainer.training and self.trainer.world_size == 1):
            self._prepare_files()

    def find_bad_images(self) -> dict[str, str]:
        """Read all files of the splits; returns why each that cannot be read cannot, by path.

        Raises:
            ConfigError: A package is missing.
        """
        raise NotImplementedError

    def refusal(self, bad: Mapping[str, str]) -> ConfigError:
        """Make the error for files that cannot be read, which were listed."""
        listed = ", all listed above, such as" if len(bad) > 1 else ""
        return ConfigError(
            f"data.root={self.root}: {len(bad)} {self.checked} cannot be read{listed}: "
            f"{next(iter(bad.values()))}; {self.advice}"
        )

    def _prepare_files(self) -> None:
        self._refuse_bad_images()

    def _refuse_bad_images(self) -> None:
        if not self.check_files or self._is_checked:
            return
        self._is_checked = True
        if bad := self.find_bad_images():
            self._list(bad, "refused")
            raise self.refusal(bad)

    @rank_zero_only
    def _list(self, bad: Mapping[str, str], action: str) -> None:
        log.warning("%d %s cannot be read, %s:", len(bad), self.checked, action)
        for message in bad.values():
            log.warning(message)


def check_all(check: Callable[[Any], T], items: Sequence[Any]) -> list[T | ConfigError]:
    """Call `check` on each item, several at a time; returns what it returns, or its ConfigError.

    Raises:
        ConfigError: A package is missing, which is the same for all items.
    """

    def result(item: Any) -> T | ConfigError:
        try:
            return check(item)
        except ConfigError as error:
            if isinstance(error.__cause__, ModuleNotFoundError):
                raise
            return error

    with ThreadPool(auto_workers()) as pool:
        found = pool.imap(result, items, chunksize=-(-len(items) // 1000) or 1)
        return [*track(found, "check files", len(items))]


def errors_by_name(names: Sequence[Any], found: Sequence[Any]) -> dict[str, str]:
    """Return the errors that `check_all` found, by the names of their items."""
    pairs = zip(names, found, strict=True)
    return {str(name): str(x) for name, x in pairs if isinstance(x, ConfigError)}
