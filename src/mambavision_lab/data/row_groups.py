"""Images in parquet files, local or remote, read a row group at a time as they are needed.

A row group is the smallest part of a parquet file that can be fetched. Each process keeps the newest few,
as the order of the training images takes those of a row group one after the other (see `block_shuffle.py`).

Importing this needs neither torch nor pyarrow, so that classes can be counted while a config is composed.
"""

import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from mambavision_lab.data.encoded import EncodedImage
from mambavision_lab.errors import ConfigError, reason

T = TypeVar("T")

WINDOW_ROWS = 1000  # among which images are shuffled: ten row groups of the usual hundred rows
# Windows that are read in turn; fixed, so that the order is that of any number of workers.
NUM_STREAMS = 8
_TRIES = 4
_FIRST_WAIT_S = 1.0  # doubled after each try


class ParquetFile:
    """A parquet file and what its footer says, which is read once.

    Args:
        path: Its path, or an address that fsspec opens.

    Attributes:
        num_rows: Of each row group.
        schema: Of pyarrow.

    Raises:
        ConfigError: It cannot be read.
    """

    def __init__(self, path: str) -> None:
        import pyarrow.parquet

        self.path = path
        self._metadata = self._read(pyarrow.parquet.read_metadata, "the footer")
        groups = range(self._metadata.num_row_groups)
        self.num_rows = [self._metadata.row_group(k).num_rows for k in groups]
        self.starts = [0, *accumulate(self.num_rows)]
        self.schema = self._metadata.schema.to_arrow_schema()

    def read_column(self, name: str) -> Any:
        """Return all rows of a column, a pyarrow table."""
        return self._read(lambda file: self._open(file).read([name], use_threads=False), name)

    def read_group(self, group: int, name: str) -> Any:
        """Return a column's rows in a row group, a pyarrow table."""

        def read(file: Any) -> Any:
            return self._open(file).read_row_group(group, [name], use_threads=False)

        return self._read(read, f"row group {group}")

    def _open(self, file: Any) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(file, metadata=self._metadata)

    def _read(self, read: Callable[[Any], T], what: str) -> T:
        """Read a part of the file; of a remote one several times, if need be.

        Raises:
            ConfigError: It cannot be read.
        """
        import fsspec
        import pyarrow

        wait_s = _FIRST_WAIT_S
        for tries in range(1, _TRIES + 1):
            try:
                files, path = fsspec.core.url_to_fs(self.path)
                # pyarrow asks for the ranges that it needs, so that nothing is to be read ahead.
                with files.open(path, "rb", cache_type="none") as file:
                    return read(file)
            except pyarrow.ArrowInvalid as error:
                raise ConfigError(
                    f"{self.path}: is no parquet file, or damaged: {what} cannot be read "
                    f"({reason(error)}); fetch it again"
                ) from error
            except Exception as error:  # of all kinds, of the file systems and the network
                if "://" not in self.path or isinstance(error, FileNotFoundError):
                    raise ConfigError(
                        f"{self.path}: {what} cannot be read ({reason(error)}); see that the file is whole"
                    ) from error
                if tries == _TRIES:
                    raise ConfigError(
                        f"{self.path}: {what} cannot be fetched, in {tries} tries ({reason(error)}); see "
                        "that the network answers, then resume"
                    ) from error
            time.sleep(wait_s)
            wait_s *= 2
        raise AssertionError


@dataclass(frozen=True, slots=True, eq=False)
class RowGroupImage(EncodedImage):
    """An image in a row of a parquet file.

    Attributes:
        file: The file.
        column: The images' column.
        group: Its row group.
        row: Its row in there.
    """

    file: ParquetFile
    column: str
    group: int
    row: int

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the file."""
        return (self.file.path,)

    def __str__(self) -> str:
        return f"{self.file.path} row {self.file.starts[self.group] + self.row}"

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            ConfigError: Its row group cannot be read.
            ValueError: The row has no image.
        """
        image = _GROUPS.get(self.file, self.column, self.group)[self.row].as_py()
        if image is None or (image["bytes"] is None and image["path"] is None):
            raise ValueError("the row has no image")
        return image["bytes"] or Path(image["path"]).read_bytes()


class RecentGroups:
    """Keep the row groups that were read last, as many as the training order returns to.

    Attributes:
        num_reads: Row groups that were read so far.
        num_rows: Rows that are kept.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, int], Any] = OrderedDict()
        self._lock = threading.Lock()
        self.num_reads, self.num_rows = 0, 0

    def get(self, file: ParquetFile, column: str, group: int) -> Any:
        """Return the images of a row group, an array of pyarrow with the fields bytes and path."""
        key = (file.path, column, group)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            images = _as_images(file.read_group(group, column))
            self._kept[key] = images
            self.num_reads += 1
            self.num_rows += len(images)
            most = most_rows(max(file.num_rows))
            while self.num_rows > most and len(self._kept) > 1:
                self.num_rows -= len(self._kept.popitem(last=False)[1])
            return images

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.num_reads, self.num_rows = 0, 0


_GROUPS = RecentGroups()


def most_rows(largest_group: int) -> int:
    """Return how many rows a process keeps: two windows for each of the streams that it reads.

    A loader's workers take every num_workers-th batch each: they share the streams where they can be divided.
    """
    loading = sys.modules.get("torch.utils.data")  # without torch there are no workers
    worker = loading.get_worker_info() if loading else None
    num_streams = NUM_STREAMS // math.gcd(NUM_STREAMS, worker.num_workers if worker else 1)
    return 2 * num_streams * (WINDOW_ROWS + largest_group)


def _as_images(table: Any) -> Any:
    """Give the only column the type of encoded images, whether it holds them with their paths or bare."""
    import datasets

    return datasets.Image(decode=False).cast_storage(table.column(0).combine_chunks())
