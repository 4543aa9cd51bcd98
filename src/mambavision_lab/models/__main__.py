"""python -m mambavision_lab.models: print the table of all networks, or write it into a file."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from mambavision_lab.models.table import (
    END,
    START,
    markdown,
    measure_all,
    replace_block,
    rich_table,
)


def main(arguments: list[str] | None = None) -> int:
    """Print, or rewrite the block of a file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mambavision_lab.models", description=__doc__)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--markdown", action="store_true", help="print it in Markdown")
    group.add_argument(
        "--write", type=Path, metavar="FILE", help=f"put it into FILE between {START} and {END}"
    )
    given = parser.parse_args(arguments)
    if given.write is None:
        print(markdown(measure_all())) if given.markdown else Console().print(
            rich_table(measure_all())
        )
        return 0
    try:
        text = given.write.read_text(encoding="utf-8")
        given.write.write_text(replace_block(text, markdown(measure_all())), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"--write {given.write}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
