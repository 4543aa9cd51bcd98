"""One long run: its memory must not grow, and it must not open ever more files.

The training is nano on generated image files with two workers, an average of the weights, and a checkpoint
every 20 steps; count is its length in minutes, from the end of its first epoch, when all workers are there.
Memory is what the process and its workers hold beside mapped files, which other programs share; it is sampled
each second, and the last fifth of that time is compared with the second one.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.torture.forked import ROOT
from benchmarks.torture.outcome import Outcome
from PIL import Image

COUNT = 10  # minutes
SHORT = 1
_MAX_GROWTH = 0.01
_OPTIONS = [
    *("data=image_folder", "data.image_size=32", "data.batch_size=8", "data.num_workers=2"),
    *("callbacks=ema", "trainer=cpu", "trainer.max_epochs=100000", "optimizer.lr=1e-5"),
    *(
        "callbacks.newest.every_n_steps=20",
        "trainer.limit_val_batches=2",
        "trainer.log_every_n_steps=5",
    ),
]


def run(*, seed: int, count: int) -> list[Outcome]:
    """Train for count minutes."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        _make_images(images, seed)
        given = [*_OPTIONS, f"seed={seed}", f"data.root={images}", f"paths.log_dir={folder}/logs"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        with Path(folder, "output").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "train.py", *given],
                **{"cwd": ROOT, "env": environment, "stdout": output, "stderr": output},
            )
            while process.poll() is None and not any(Path(folder).rglob("last-1.ckpt")):
                time.sleep(1)
            samples = _watch(process, 60 * count)
        is_running = process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        tail = Path(folder, "output").read_text()[-300:]
    if not is_running or len(samples) < 10:
        return [Outcome("runs on", 1, 0, tail)]
    memory, files = ([sample[i] for sample in samples] for i in (0, 1))
    early, late = map(statistics.median, _fifths(memory))
    growth = late / early - 1
    first, last = map(statistics.median, _fifths(files))  # but for a checkpoint that is written
    return [
        Outcome(
            f"memory grows by at most {_MAX_GROWTH:.0%}",
            1,
            int(growth <= _MAX_GROWTH),
            f"{early:.0f} MB, then {late:.0f} MB ({growth:+.2%}) in {count} minutes",
        ),
        Outcome("open files stay constant", 1, int(last <= first), f"{first}, then {last}"),
    ]


def _fifths(values: list[float]) -> tuple[list[float], list[float]]:
    """Return the second and the last fifth."""
    n = len(values) // 5
    return values[n : 2 * n], values[-n:]


def _watch(process: "subprocess.Popen[bytes]", seconds: float) -> list[tuple[float, float]]:
    """Sample memory in MB and open files while a process runs."""
    samples, end = [], time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        time.sleep(1)
        tree = _tree(process.pid)
        samples.append((sum(map(_memory_mb, tree)), float(sum(map(_num_files, tree)))))
    return samples


def _tree(pid: int) -> list[int]:
    """Return a process and those that it has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(descendant for child in children for descendant in _tree(int(child)))]


def _memory_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    kinds = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


def _num_files(pid: int) -> int:
    try:
        return len([*Path(f"/proc/{pid}/fd").iterdir()])
    except OSError:
        return 0


def _make_images(root: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for split, number in (("train", 100), ("val", 10), ("test", 10)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i}.jpg")
