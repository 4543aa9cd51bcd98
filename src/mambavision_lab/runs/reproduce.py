"""Run a training run again from its snapshot and compare the metrics.

python -m mambavision_lab.runs.reproduce RUN [key=value ...]
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from mambavision_lab.config.overrides import quoted
from mambavision_lab.errors import ConfigError, refuse
from mambavision_lab.metrics import is_count, is_speed
from mambavision_lab.runs.snapshot import find_snapshot

# The same command in a checkout, in any folder, and from an installed package.
_TRAIN = (sys.executable, "-c", "from mambavision_lab.commands import train; train()")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit status 0 where all metrics are equal, 1 where not, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m mambavision_lab.runs.reproduce",
        description="Run a training run again from its snapshot and compare the metrics, bit by bit.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, such as logs/latest")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides, as for train.py"
    )
    given = parser.parse_args(arguments)
    try:
        sys.exit(0 if reproduce(given.run, given.overrides) else 1)
    except ConfigError as error:
        refuse(error)


def reproduce(run: str, overrides: Sequence[str] = ()) -> bool:
    """Run again what a run folder holds; returns whether all metrics but speeds are equal.

    Raises:
        ConfigError: It is no run folder, its snapshot was edited, or the run was not finished.
    """
    old = find_snapshot(run, "from_run").resolve().parent
    if not (old / "metrics.json").is_file():
        raise ConfigError(f"from_run={run}: has no metrics.json; wanted a run that was finished")
    # Beside the old run: that folder can be written to, and the two are easy to compare.
    new = old.parent / f"{old.name}-reproduced-{datetime.now():%Y-%m-%d_%H-%M-%S}"
    done = subprocess.run([*_TRAIN, f"from_run={old}", *overrides, f"hydra.run.dir={quoted(new)}"])
    if done.returncode:
        raise ConfigError(f"from_run={run}: the run ended with status {done.returncode}; see above")
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (old, new))
    return show_comparison(before, after)


def show_comparison(before: dict[str, float], after: dict[str, float]) -> bool:
    """Print metrics side by side; returns whether all but speeds are equal."""
    table = Table("metric", "before", "now", "difference")
    is_same = True
    for name in sorted({*before, *after}):
        # An older run did not count.
        if is_speed(name) or (is_count(name) and name not in before):
            continue
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            difference = "missing"
        else:
            difference = "none" if old == new else f"{new - old:+.3g}"
        is_same &= difference == "none"
        table.add_row(name, str(old), str(new), difference)
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print("reproduced: every metric is the same" if is_same else "not the same metrics")
    return is_same


if __name__ == "__main__":
    main()
