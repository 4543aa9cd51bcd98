"""Print the statistics of a data set as tables."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from mambavision_lab.counting import counted
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.tasks.console import console, print_panel, printable

_MAX_LISTED = 24  # classes
_NUM_EXTREMES = 5  # of the largest classes, and of the smallest, that are listed of more


def print_statistics(data: ImageDataModule, statistics: dict[str, Any]) -> None:
    """Print what `describe` found in a data module, and the speeds that were measured."""
    console.print(_class_table(statistics))
    details = {label: printable(text) for label, text in _details(data, statistics)}
    print_panel("images", details)
    for message in statistics["unreadable"].values():
        console.print(printable(message), soft_wrap=True)
    mean, std = (_as_override(statistics[key]) for key in ("mean", "std"))
    console.print(f"to copy: data.mean={mean} data.std={std}", soft_wrap=True)


def _class_table(statistics: dict[str, Any]) -> Table:
    table = Table("class")
    for split in statistics["images"]:
        table.add_column(split, justify="right")
    classes = [*statistics["classes"].items()]
    if len(classes) > _MAX_LISTED:
        classes.sort(key=lambda item: item[1]["train"], reverse=True)
        num_left_out = len(classes) - 2 * _NUM_EXTREMES
        classes[_NUM_EXTREMES:-_NUM_EXTREMES] = [(f"... {num_left_out:,} more ...", {})]
    for name, counts in classes:
        table.add_row(printable(name), *(f"{num:,}" for num in counts.values()))
    table.add_section()
    table.add_row("all", *(f"{num:,}" for num in statistics["images"].values()))
    return table


def _details(data: ImageDataModule, statistics: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each line of the panel."""
    num_images = sum(statistics["images"].values())
    is_all = statistics["scanned"] == num_images
    hint = "" if is_all else "; num_scanned=null for all"
    yield "scanned", f"{statistics['scanned']:,} of {num_images:,} images{hint}"
    for key in ("width", "height"):
        smallest, median, largest = statistics[key]
        spread = f"{smallest:,} to {largest:,} pixels, median {median:,}"
        yield key, spread if smallest < largest else f"{median:,} pixels"
    yield "format", ", ".join(f"{mode} ({num:,})" for mode, num in statistics["modes"].items())
    for key in ("mean", "std"):
        yield key, f"{_as_override(statistics[key])}, set is {_as_override(getattr(data, key))}"
    num_unreadable = len(statistics["unreadable"])
    files = counted(num_unreadable, "files")
    yield "unreadable", f"{files}, listed below" if num_unreadable else "none"
    yield "duplicates", "\n".join(map(_describe, statistics["duplicates"])) or "none"
    if "not_loaded" in statistics:
        yield "loading", statistics["not_loaded"]
    if "loaded_per_s" in statistics:
        loaded = statistics["loaded_per_s"].items()
        yield "loading", "; ".join(_describe_speed(num, speed) for num, speed in loaded)
        prepared = statistics["prepared_per_s"]
        yield "batches", f"{prepared:,.0f} images/s augmented and normalised on the CPU"


def _describe(duplicates: dict[str, Any]) -> str:
    one, other = duplicates["splits"]
    where = f"within {one}" if one == other else f"{one} and {other}"
    mislabelled = duplicates["num_mislabelled"]
    classes = f", {mislabelled:,} in another class" if mislabelled else ""
    return f"{where}: {duplicates['num']:,}{classes}, such as {' = '.join(duplicates['example'])}"


def _describe_speed(num_workers: int, images_per_s: float) -> str:
    if not num_workers:
        return f"{images_per_s:,.0f} images/s without workers"
    each = f" ({images_per_s / num_workers:,.0f} each)" if num_workers > 1 else ""
    return f"{images_per_s:,.0f} with {counted(num_workers, 'workers')}{each}"


def _as_override(values: Sequence[float]) -> str:
    return f"[{','.join(map(str, values))}]"
