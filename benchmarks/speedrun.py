"""Train the speedrun for some seeds and log accuracy against seconds: make speedrun.

Each seed is one run of `train.py` in a process of its own. Seconds are those since its command was started,
with start-up, validation and the final test; accuracy of an epoch is that of the validation split, the
last is that of the test split, read once.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
EPOCH = re.compile(r"epoch (\d+)/\d+ .*val/acc1 ([\d.]+)%")
FOLDER = re.compile(r"run folder: (.+)")


def run(experiment: str, seed: int, overrides: list[str]) -> dict[str, object]:
    """Train once.

    Returns:
        The log of the run: seconds and accuracies of its epochs, and of the test.
    """
    command = [sys.executable, "train.py", f"experiment={experiment}", f"seed={seed}", *overrides]
    start = time.perf_counter()
    epochs: list[tuple[float, float]] = []
    folder = None
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seconds = time.perf_counter() - start
            print(f"{seconds:7.1f} s  {line}", end="", flush=True)
            if found := EPOCH.match(line):
                epochs.append((seconds, float(found[2])))
            if found := FOLDER.match(line):
                folder = ROOT / found[1]
    if process.returncode or folder is None:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    seconds = time.perf_counter() - start
    test = json.loads((folder / "metrics.json").read_text())["test/acc1"]
    return {"seed": seed, "epochs": epochs, "seconds": seconds, "test": 100 * test}


def draw(runs: list[dict[str, object]], path: Path) -> None:
    """Draw validation accuracy over seconds, a line a seed, and the test as a star at its end."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for record in runs:
        seconds, accuracies = zip(*record["epochs"], strict=True)
        (line,) = axes.plot(seconds, accuracies, ".-", label=f"seed {record['seed']}")
        axes.plot(record["seconds"], record["test"], "*", color=line.get_color(), markersize=10)
    axes.set_xlabel("seconds since the command was started")
    axes.set_ylabel("top-1, % (star: test)")
    axes.set_ylim(bottom=80)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run all seeds and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="further options of train.py")
    parser.add_argument("--experiment", default="fashion_mnist_speedrun")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--output", type=Path, default=ROOT / "logs" / "speedrun")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    runs = [run(arguments.experiment, seed, arguments.overrides) for seed in arguments.seeds]
    name = arguments.experiment
    (arguments.output / f"{name}.json").write_text(json.dumps(runs, indent=2) + "\n")
    draw(runs, arguments.output / f"{name}.png")
    table = Table("seed", "seconds", "test top-1, %")
    for record in runs:
        table.add_row(str(record["seed"]), f"{record['seconds']:.0f}", f"{record['test']:.2f}")
    if len(runs) > 1:
        tests = [float(record["test"]) for record in runs]  # type: ignore[arg-type]
        table.add_row(
            "mean ± s", "", f"{statistics.mean(tests):.2f} ± {statistics.stdev(tests):.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
