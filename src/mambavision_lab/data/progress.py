"""Show how far a download or the decoding of many files is."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeRemainingColumn

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    """Yield items, with a bar on a terminal that is gone when they end; a log file gets nothing.

    Args:
        items: What is done, one after the other.
        what: The word in front of the bar.
        total: How many there are; None where that is unknown.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    columns = (SpinnerColumn(), *Progress.get_default_columns()[:-1], TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=what)
