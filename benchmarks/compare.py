"""Compare this checkout with another, such as that of an earlier commit: python benchmarks/compare.py FOLDER.

git worktree add /tmp/before COMMIT && python benchmarks/compare.py /tmp/before

Each round runs every measurement once in each checkout, in a process of its own, so that both meet the same
machine. Printed are medians and the median of the rounds' ratios, this checkout over the other.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parents[1]
FIRST_STEP = (
    "trainer=cpu trainer.max_epochs=1 trainer.limit_train_batches=1 trainer.limit_val_batches=0"
)
# Programs that print seconds: medians inside one process, after warm-up.
SCAN = """
import statistics, time, torch
from mambavision_lab.ops.selective_scan import selective_scan
torch.manual_seed(0)
b, l, d, n = 32, 196, 160, 8
u, delta = torch.randn(b, l, d, requires_grad=True), torch.rand(b, l, d, requires_grad=True)
A = -torch.rand(d, n, requires_grad=True); B, C = (torch.randn(b, l, n, requires_grad=True) for _ in "BC")
def call():
    start = time.perf_counter()
    selective_scan(u, delta, A, B, C, delta_softplus=True).sum().backward()
    return time.perf_counter() - start
[call() for _ in range(5)]
print(statistics.median(call() for _ in range(40)))
"""
STEP = """
import statistics, time, torch
import torch.nn.functional as F
from mambavision_lab import create_mambavision
torch.manual_seed(0)
net = create_mambavision("mambavision_nano", num_classes=10, image_size=32)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
def step():
    start = time.perf_counter()
    optimizer.zero_grad(); F.cross_entropy(net(images), labels).backward(); optimizer.step()
    return time.perf_counter() - start
[step() for _ in range(3)]
print(statistics.median(step() for _ in range(15)))
"""
MEASUREMENTS = {
    "--help": ["train.py", "--help"],
    "--cfg job": ["train.py", "--cfg", "job"],
    "a refused option": ["train.py", "trainer.devcies=2"],
    "to the end of a run of one step": ["train.py", *FIRST_STEP.split(), "scheduler=constant"],
    "scan, forward and backward": ["-c", SCAN],
    "training step, nano, batch 64": ["-c", STEP],
}


def main() -> None:
    """Run all measurements in both checkouts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    checkouts = {"this": HERE, "other": given.other.resolve()}
    table = Table(title=f"seconds, median of {given.rounds} rounds")
    for heading in ("measurement", *checkouts, "this / other", "ratios"):
        table.add_column(heading)
    for name, arguments in MEASUREMENTS.items():
        seconds: dict[str, list[float]] = {which: [] for which in checkouts}
        for round_ in range(given.rounds + 1):
            for which, folder in checkouts.items():
                found = measure(arguments, folder)
                if round_:  # the first is warm-up
                    seconds[which].append(found)
        ratios = [a / b for a, b in zip(seconds["this"], seconds["other"], strict=True)]
        cells = [f"{statistics.median(seconds[which]):.4g}" for which in checkouts]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        table.add_row(name, *cells, f"{statistics.median(ratios):.2f}", spread)
    Console(width=120).print(table)


def measure(arguments: list[str], folder: Path) -> float:
    """Run Python in a checkout; returns what it prints as seconds, else how long it took."""
    with tempfile.TemporaryDirectory() as logs:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder / "src"), "MAMBAVISION_LOGS": logs},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
    if done.returncode not in (0, 2):
        sys.exit(f"{folder}: {done.stderr}")
    return float(done.stdout.split()[-1]) if arguments[0] == "-c" else seconds


if __name__ == "__main__":
    main()
