"""Read the table of a sweep."""

import csv
from pathlib import Path


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a sweep's table."""
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))
