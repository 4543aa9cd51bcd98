"""Run a run again from its snapshot and compare: python -m mambavision_lab.runs.reproduce RUN."""

import argparse
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder
from mambavision_lab.runs.snapshot import find_snapshot


def main() -> None:
    """Exit status 0 where all figures are the same bit by bit, 1 where not, 2 for a bad folder."""
    parser = argparse.ArgumentParser(prog="reproduce", description=__doc__)
    parser.add_argument("run", help="folder of a run that train.py finished")
    parser.add_argument("overrides", nargs="*", help="passed on to train.py")
    arguments = parser.parse_args()
    try:
        sys.exit(0 if reproduce(arguments.run, arguments.overrides) else 1)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def reproduce(run: str, overrides: list[str]) -> bool:
    """Run again what a run folder holds; returns whether every figure but speeds is the same.

    Raises:
        ConfigError: It is no run folder, its snapshot was edited, or the run was not finished.
    """
    old = find_snapshot(run, "from_run").resolve().parent
    if not (old / "metrics.json").is_file():
        raise ConfigError(f"from_run={run}: has no metrics.json; wanted a run that was finished")
    script = configs_folder().parent / "train.py"
    if not script.is_file():
        script = Path.cwd() / "train.py"
    if not script.is_file():
        raise ConfigError(f"{script}: no such file; call this in the folder that has train.py")
    # Beside the old run: that folder can be written to, and the two are easy to compare.
    new = old.parent / f"{old.name}-reproduced-{datetime.now():%Y-%m-%d_%H-%M-%S}"
    command = [sys.executable, str(script), f"from_run={old}", *overrides]
    done = subprocess.run([*command, f"hydra.run.dir='{new}'"])
    if done.returncode:
        raise ConfigError(f"from_run={run}: the run ended with status {done.returncode}; see above")
    before, after = (json.loads((run / "metrics.json").read_text()) for run in (old, new))
    return show_comparison(before, after)


def show_comparison(before: dict[str, float], after: dict[str, float]) -> bool:
    """Print figures side by side; returns whether all but speeds are the same."""
    table = Table("metric", "before", "now", "difference")
    is_same = True
    for name in sorted({*before, *after}):
        if name.endswith("_per_s"):
            continue
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            difference = "missing"
        else:
            difference = "none" if old == new else f"{new - old:+.3g}"
        is_same &= difference == "none"
        table.add_row(name, str(old), str(new), difference)
    console = Console(highlight=False)
    console.print(table)
    console.print("reproduced: every figure is the same" if is_same else "not the same figures")
    return is_same


if __name__ == "__main__":
    main()
