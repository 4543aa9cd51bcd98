"""The parquet files of a data set of Hugging Face, in a folder or on the hub, read as they are needed.

At the start the footers are read, which say how many rows each row group has, and the labels' column. So
every image has a place, as it has in a data set that was downloaded.
"""

from collections.abc import Iterable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

from mambavision_lab.data.progress import track
from mambavision_lab.data.row_groups import ParquetFile, RowGroupImage
from mambavision_lab.errors import ConfigError

_NUM_THREADS = 16  # requests at a time, of a few kilobytes each


class ParquetSplit:
    """A split in parquet files, as far as it is used like a `datasets.Dataset`.

    Args:
        paths: Paths or addresses of the files, in order.
        features: Those of the data set; None for those of the first file.

    Raises:
        ConfigError: A file cannot be read, or lacks a column.
    """

    def __init__(self, paths: Sequence[str], features: Any = None) -> None:
        import datasets

        with ThreadPool(min(_NUM_THREADS, len(paths))) as pool:
            opened = pool.imap(ParquetFile, paths)
            self.files = [*track(opened, "read footers", len(paths))]
        self.features = features or datasets.Features.from_arrow_schema(self.files[0].schema)
        for file in self.files:
            if missing := [name for name in self.features if name not in file.schema.names]:
                raise ConfigError(
                    f"{file.path}: has no column {missing[0]} but {', '.join(file.schema.names)}; wanted the "
                    "same columns in all files"
                )
        self._columns: dict[str, list[Any]] = {}

    def __getitem__(self, column: str) -> list[Any]:
        """Return all values of a column, such as the labels, which are read once."""
        if column not in self._columns:
            with ThreadPool(min(_NUM_THREADS, len(self.files))) as pool:
                found = pool.imap(lambda file: self._values(file, column), self.files)
                parts = track(found, f"read {column}", len(self.files))
                self._columns[column] = [value for part in parts for value in part]
        return self._columns[column]

    def images(self, column: str) -> list[RowGroupImage]:
        """List the images of a column, which are read later."""
        return [
            RowGroupImage(file, column, group, row)
            for file in self.files
            for group, num_rows in enumerate(file.num_rows)
            for row in range(num_rows)
        ]

    def _values(self, file: ParquetFile, column: str) -> list[Any]:
        import datasets
        from datasets.table import table_cast

        schema = datasets.Features({column: self.features[column]}).arrow_schema
        return table_cast(file.read_column(column), schema).column(0).to_pylist()


def list_parquet(root: str, subset: str | None) -> dict[str, ParquetSplit]:
    """Find the parquet files of each split, of a folder or of a data set on the hub.

    Raises:
        ConfigError: The data are in other files.
        Exception: Of any kind, from `datasets`; there is no such data set.
    """
    import datasets
    from datasets.packaged_modules.parquet.parquet import Parquet

    builder = datasets.load_dataset_builder(root, subset)
    if not isinstance(builder, Parquet):
        raise ConfigError(
            f"data.root={root}: is no data set of parquet files, which data.streaming=true reads; leave "
            "data.streaming=false"
        )
    features, splits = builder.info.features, {}
    for name, paths in builder.config.data_files.items():
        splits[str(name)] = ParquetSplit(paths, features)
        features = splits[str(name)].features
    check_same_classes(file for split in splits.values() for file in split.files)
    return splits


def check_same_classes(files: Iterable[ParquetFile | str]) -> None:
    """Check that all files which state the classes of a column state the same, in the same order.

    Raises:
        ConfigError: Two do not.
    """
    import datasets

    stated: dict[str, tuple[str, list[str]]] = {}
    for given in files:
        file = ParquetFile(given) if isinstance(given, str) else given
        for column, feature in datasets.Features.from_arrow_schema(file.schema).items():
            if (names := getattr(feature, "names", None)) is None:
                continue
            first, expected = stated.setdefault(column, (file.path, names))
            if names != expected:
                raise ConfigError(
                    f"{file.path}: the classes of {column} are {', '.join(names[:5])}, and in {first} "
                    f"{', '.join(expected[:5])}; wanted the same list in the same order"
                )


def number_blocks(images: Sequence[Any]) -> list[int]:
    """Number the row groups that images are in; returns that of each."""
    numbers: dict[tuple[str, int], int] = {}
    keys = ((image.file.path, image.group) for image in images)
    return [numbers.setdefault(key, len(numbers)) for key in keys]
