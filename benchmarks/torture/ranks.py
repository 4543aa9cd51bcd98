"""Two gloo processes of which one or both are killed, or told to stop: the run resumes and ends alike."""

import os
import random
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.torture.outcome import Outcome, count_held
from benchmarks.torture.trial import MEMORY, Trial, difference, results, training_seconds

COUNT = 50
SHORT = 1
_TOLERANCE = 1e-6
_TWO = [*MEMORY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=3"]
_WAYS = ("rank 0 killed", "rank 1 killed", "both killed", "both told to stop")


def run(*, seed: int, count: int) -> list[Outcome]:
    """Break count runs of two processes, each once, at random moments."""
    draw = random.Random(seed)
    held: list[str | None] = []
    num_equal = 0
    with tempfile.TemporaryDirectory(prefix="ranks-") as name:
        unbroken = Trial(Path(name, "unbroken"), _TWO, num_processes=2)
        if failure := unbroken.finish():
            return [Outcome("two processes", count, 0, f"the unbroken run: {failure}")]
        seconds, wanted = training_seconds(unbroken.folder), results(unbroken.folder)
        while len(held) < count:
            trial = Trial(Path(name, str(len(held))), _TWO, num_processes=2)
            way = _WAYS[len(held) % len(_WAYS)]
            broken = _break(trial, way, draw.uniform(0, 0.9 * seconds))
            failure = trial.finish()
            if failure is None:
                found = results(trial.folder)
                num_equal += difference(wanted, found) is None
                failure = _distance(wanted, found)
            problem = broken or failure
            held.append(problem and f"{way}: {problem}")
            shutil.rmtree(trial.folder)
    detail = f"{num_equal} of {count} with the same bits"
    return [count_held("two processes: losses within 1e-6", held, detail)]


def _break(trial: Trial, way: str, delay: float) -> str | None:
    """Break a run; returns what went wrong with that."""
    trial.start()
    trial.wait(delay)
    if way == _WAYS[-1] and not trial.has_ended:
        for process in trial.processes:
            os.kill(process.pid or 0, signal.SIGTERM)
        statuses = trial.wait(30)
        trial.kill()
        return None if statuses in ([143, 143], [0, 0]) else f"statuses {statuses}"
    if way in _WAYS[:2] and not trial.has_ended:
        os.killpg(trial.processes[_WAYS.index(way)].pid or 0, signal.SIGKILL)
        trial.wait(0.5)  # the other one may run for a while
    trial.kill()
    return None


def _distance(wanted: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Compare the losses of two runs, row by row."""
    rows = wanted["metrics.csv"], found["metrics.csv"]
    places = [[(row["epoch"], row["step"]) for row in some] for some in rows]
    if places[0] != places[1]:
        return "other rows in metrics.csv"
    for one, other in zip(*rows, strict=True):
        for key, value in one.items():
            if (
                key.endswith("loss")
                and value
                and abs(float(value) - float(other[key])) > _TOLERANCE
            ):
                return f"{key} at step {one['step']}: {other[key]}, was {value}"
    return None
