"""Print the table of all networks, or write it into a file.

python -m mambavision_lab.models [--markdown] [--output docs/networks.md] [--overwrite]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mambavision_lab.errors import ConfigError, reason, refuse
from mambavision_lab.files import write_atomically
from mambavision_lab.models.table import (
    END,
    START,
    markdown,
    measure_all,
    replace_block,
    rich_table,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mambavision_lab.models",
        description="Print the table of all networks, or write it into a file.",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"write it in Markdown into FILE, between the lines {START} and {END}",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the table of an existing file; the rest of its text stays",
    )
    given = parser.parse_args(arguments)
    try:
        if given.output is not None:
            _write(given.output, given.overwrite)
        elif given.markdown:
            print(markdown(measure_all()))
        else:
            Console().print(rich_table(measure_all()))
    except ConfigError as error:
        refuse(error)


def _write(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise ConfigError(f"--output {output}: is already there; give --overwrite or another one")
    try:
        text = output.read_text(encoding="utf-8") if output.exists() else f"{START}\n{END}\n"
        write_atomically(output, replace_block(text, markdown(measure_all())))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"--output {output}: {reason(error)}") from error


if __name__ == "__main__":
    main()
