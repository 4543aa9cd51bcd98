"""Run parts of the fault injection and print one table; the exit status is 1 where a promise did not hold.

python -m benchmarks.torture                                all parts, each as long as it says
python -m benchmarks.torture configs hostile --seed 3       some of them, with other random numbers
python -m benchmarks.torture soak --count 60                an hour of it
python -m benchmarks.torture hostile images --short         a few attempts of each, as in CI
"""

import argparse
import pkgutil
import sys
import time
from importlib import import_module
from types import ModuleType

import benchmarks.torture
from rich.console import Console
from rich.table import Table

_NO_PARTS = ("__main__",)


def find_parts() -> dict[str, ModuleType]:
    """Import the parts: the modules of this package that have a function `run`."""
    names = [module.name for module in pkgutil.iter_modules(benchmarks.torture.__path__)]
    modules = {n: import_module(f"benchmarks.torture.{n}") for n in names if n not in _NO_PARTS}
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


def main() -> None:
    """Run the parts that the command line names, all by default."""
    parts = find_parts()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(parts)}")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices")
    parser.add_argument("--count", type=int, help="attempts of each part; soak: minutes")
    parser.add_argument("--short", action="store_true", help="as few attempts as in CI")
    given = parser.parse_args()
    if unknown := [name for name in given.parts if name not in parts]:
        parser.error(f"{unknown[0]}: no such part; choose from {', '.join(parts)}")
    table = Table("part", "promise", "tried", "held", "detail", title=f"seed {given.seed}")
    has_failed = False
    for name in given.parts or parts:
        usual = getattr(parts[name], "SHORT" if given.short else "COUNT")
        count = usual if given.count is None else given.count
        print(f"{name}: seed {given.seed}, count {count}", flush=True)
        start = time.monotonic()
        for outcome in parts[name].run(seed=given.seed, count=count):
            has_failed |= outcome.held < outcome.tried
            style = "red" if outcome.held < outcome.tried else None
            tried, held = str(outcome.tried), str(outcome.held)
            table.add_row(name, outcome.name, tried, held, outcome.detail, style=style)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    Console().print(table)
    sys.exit(has_failed)


if __name__ == "__main__":
    main()
