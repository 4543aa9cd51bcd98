"""Write one run's report and curves again, or compare several runs.

python -m mambavision_lab.report RUN [RUN ...] [--output comparison.html] [--overwrite]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mambavision_lab.errors import ConfigError, refuse


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mambavision_lab.report",
        description="Write report.html and curves.png of a run again, or compare several runs.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, such as logs/latest")
    parser.add_argument(
        "--output", default="comparison.html", help="page that compares several runs (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")
    given = parser.parse_args(arguments)
    try:
        _report(given.runs, Path(given.output), given.overwrite)
    except ConfigError as error:
        refuse(error)


def _report(runs: list[str], output: Path, overwrite: bool) -> None:
    # These take seconds to import: --help and a wrong argument do not wait for them.
    from mambavision_lab.report.figures import run_names
    from mambavision_lab.report.page import differing_settings, results_table
    from mambavision_lab.report.run_record import read_run
    from mambavision_lab.report.write import plot_training_curves, write_comparison, write_report

    console = Console(highlight=False, markup=False)
    if len(runs) == 1:
        console.print(f"wrote {write_report(runs[0])}", soft_wrap=True)
        if read_run(runs[0]).curves:
            console.print(f"wrote {plot_training_curves(runs[0])}", soft_wrap=True)
        return
    if output.exists() and not overwrite:
        raise ConfigError(f"--output {output}: is already there; give --overwrite or another one")
    records = [read_run(run) for run in runs]
    table = Table()
    for heading in ("", *run_names(records)):
        table.add_column(heading, overflow="fold")
    for key, values in [*results_table(records), *differing_settings(records)]:
        table.add_row(key, *values)
    console.print(table)
    console.print(f"wrote {write_comparison(runs, output)}", soft_wrap=True)


if __name__ == "__main__":
    main()
