"""SIGKILL at random moments: the run resumes, and ends with the bits of the unbroken one.

Nano on data in memory, on image files and shards with two workers, and with several sizes, mixed images and
MESA; with accumulation and an average of weights, saving every second step. One run is killed again and
again until it ends.
"""

import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.torture.outcome import Outcome, count_held
from benchmarks.torture.trial import (
    MEMORY,
    RANDOM,
    Trial,
    difference,
    image_files,
    results,
    shards,
    training_seconds,
)

COUNT = 200
SHORT = 4


def run(*, seed: int, count: int) -> list[Outcome]:
    """Kill trainings count times, as often of each kind."""
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        kinds = {
            "memory": MEMORY,
            "files, two workers": image_files(folder / "images"),
            "sizes, mixing, MESA": [*MEMORY, *RANDOM],
            "shards, two workers": shards(folder / "shards"),
        }
        return [
            _kill_runs(f"killed: {kind}", folder / str(k), options, seed, -(-count // len(kinds)))
            for k, (kind, options) in enumerate(kinds.items())
        ]


def _kill_runs(name: str, folder: Path, options: list[str], seed: int, count: int) -> Outcome:
    folder.mkdir()
    draw = random.Random(f"{name} {seed}")
    unbroken = Trial(folder / "unbroken", options)
    if failure := unbroken.finish():
        return Outcome(name, count, 0, f"the unbroken run: {failure}")
    seconds, wanted = training_seconds(unbroken.folder), results(unbroken.folder)
    held: list[str | None] = []
    stages: Counter[str] = Counter()
    while len(held) < count:
        trial = Trial(folder / str(len(held)), options)
        kills: list[str] = []
        while len(held) + len(kills) < count:
            trial.start()
            trial.wait(draw.uniform(0, 1.2 * seconds))
            if trial.has_ended:
                break
            kills.append(trial.stage)
            trial.kill()
            stages["writing a file"] += any(trial.folder.rglob(".*.part"))
        failure = trial.finish() or difference(wanted, results(trial.folder))
        held += [failure and f"killed in {', '.join(kills)}: {failure}"] * len(kills)
        stages.update(kills)
        shutil.rmtree(trial.folder)
    return count_held(name, held, ", ".join(f"{n} in {stage}" for stage, n in stages.items()))
