"""SIGTERM at random moments of training: a checkpoint of the very step, within seconds, and the same end."""

import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.torture.outcome import Outcome, count_held
from benchmarks.torture.trial import (
    MEMORY,
    STAGES,
    Trial,
    difference,
    results,
    saved_step,
    training_seconds,
)

COUNT = 50
SHORT = 1
_LIMIT_S = 5.0


def run(*, seed: int, count: int) -> list[Outcome]:
    """Send count signals to trainings on data in memory, which then resume."""
    draw = random.Random(seed)
    stops: list[str | None] = []
    in_time: list[str | None] = []
    ends: list[str | None] = []
    waits: list[float] = []
    with tempfile.TemporaryDirectory(prefix="signals-") as name:
        unbroken = Trial(Path(name, "unbroken"), MEMORY)
        if failure := unbroken.finish():
            return [Outcome("SIGTERM", count, 0, f"the unbroken run: {failure}")]
        seconds, wanted = training_seconds(unbroken.folder), results(unbroken.folder)
        while len(stops) < count:
            trial = Trial(Path(name, str(len(stops))), MEMORY)
            stopped = _stop(trial, draw.uniform(0, 0.8 * seconds))
            if stopped is not None:
                failure, wait = stopped
                stops.append(failure)
                in_time.append(None if wait <= _LIMIT_S else f"after {wait:.1f} s")
                waits.append(wait)
                ends.append(trial.finish() or difference(wanted, results(trial.folder)))
            shutil.rmtree(trial.folder)
    times = f"after {statistics.median(waits):.2f} s, {max(waits):.2f} s at most"
    return [
        count_held("SIGTERM: checkpoint of the very step, status 143", stops),
        count_held(f"SIGTERM: ended in {_LIMIT_S:.0f} s", in_time, times),
        count_held("SIGTERM: resumes with the same bits", ends),
    ]


def _stop(trial: Trial, delay: float) -> tuple[str | None, float] | None:
    """Stop a training; returns what went wrong and the seconds it took, None where it had ended before."""
    trial.start()
    trial.wait(delay)
    if trial.has_ended or trial.stage == STAGES[-1]:
        trial.kill()
        return None
    start = time.monotonic()
    os.kill(trial.processes[0].pid or 0, signal.SIGTERM)
    (status,) = trial.wait(60)
    wait = time.monotonic() - start
    trial.kill()
    steps, saved = trial.num_steps, saved_step(trial.folder)
    if status != 143 or saved != steps:
        return f"status {status} at step {steps}, saved {saved}", wait
    return None, wait
