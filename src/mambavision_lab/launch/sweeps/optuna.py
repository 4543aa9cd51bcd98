"""A search by Optuna's TPE sampler, its study kept in a file of the sweep's folder.

Trial and job share their number. A job that was broken off leaves its trial open; a resumed sweep
runs it again with the values that it had.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
)

from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.sweeps.search import Job, fixed

STORAGE = "optuna.db"
TRIAL = "trial.json"
STUDY = "sweep"


class OptunaSearch:
    """Trials drawn from intervals (`interval(1e-4,1e-2)`, `tag(log,interval(...))`) and choices.

    Args:
        resume: Folder of a sweep to go on with, or None for a new one.
        n_trials: Number of trials in all, those before a resume included.
        num_parallel: Trials asked for at once.
        seed: Of the sampler.
        num_random: Trials drawn at random before TPE takes over and before any is pruned.
        use_pruning: Whether a trial below the median of the earlier ones is stopped.
        pruning_epochs: Validations that a trial is given in any case.
        devices_per_job: Devices that each trial has to itself, for trials side by side; None is all.
    """

    def __init__(
        self,
        resume: str | None = None,
        n_trials: int = 20,
        num_parallel: int = 1,
        seed: int | None = 0,
        num_random: int = 5,
        use_pruning: bool = True,
        pruning_epochs: int = 1,
        devices_per_job: int | None = None,
    ) -> None:
        for name, value in (("n_trials", n_trials), ("num_parallel", num_parallel)):
            if value < 1:
                raise ConfigError(f"sweep.{name}={value}: wanted at least 1")
        self.resume = resume
        self.n_trials = n_trials
        self.num_parallel = num_parallel
        self.seed = seed
        self.num_random = num_random
        self.use_pruning = use_pruning
        self.pruning_epochs = pruning_epochs
        self.devices_per_job = devices_per_job  # the job itself takes them
        self.is_minimized = False  # the sweep knows its figure and says so

    @staticmethod
    def probes(parsed: Sequence[Override]) -> Iterator[list[str]]:
        """Each choice once, and both ends of each interval."""
        keys = [o.get_key_element() for o in parsed]
        values = [_ends(o) if o.is_sweep_override() else None for o in parsed]
        if not any(values):
            raise ConfigError(
                "sweep=optuna: there is nothing to search; give choices or an interval, "
                "such as 'optimizer.lr=tag(log,interval(1e-4,1e-2))'"
            )
        for varied, options in enumerate(values):
            for option in options or []:
                yield [
                    fixed(override)
                    if ends is None
                    else f"{key}={option if i == varied else ends[0]}"
                    for i, (key, ends, override) in enumerate(
                        zip(keys, values, parsed, strict=True)
                    )
                ]

    def batches(
        self, parsed: Sequence[Override], folder: Path, records: dict[int, dict[str, Any]]
    ) -> Iterator[list[Job]]:
        """Trials that were broken off, then new ones until there are `n_trials`."""
        import optuna
        from optuna.trial import TrialState

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=f"sqlite:///{folder / STORAGE}",
            study_name=STUDY,
            load_if_exists=True,
            direction="minimize" if self.is_minimized else "maximize",
        )
        # A resumed sweep must not draw its first values again.
        seed = None if self.seed is None else self.seed + len(study.trials)
        study.sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self.num_random, constant_liar=True
        )
        space = {
            o.get_key_element(): _distribution(o, optuna) for o in parsed if o.is_sweep_override()
        }
        states = {
            "done": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        numbers = [t.number for t in study.get_trials(states=[TrialState.RUNNING])]
        while True:
            # What ended since the last batch, or just before the sweep was broken off.
            for number in numbers:
                record = records.get(number, {})
                state = states.get(record.get("status", ""))
                if state is None:
                    continue
                value = record.get("value")
                if state is TrialState.COMPLETE and (value is None or value != value):
                    state = TrialState.FAIL  # nothing to learn from
                study.tell(number, value if state is TrialState.COMPLETE else None, state)
            trials = study.get_trials(deepcopy=False)
            numbers = [t.number for t in trials if t.state == TrialState.RUNNING]
            numbers = numbers[: self.num_parallel]
            num_new = min(self.num_parallel - len(numbers), self.n_trials - len(trials))
            numbers += [study.ask(space).number for _ in range(num_new)]
            if not numbers:
                return
            trials = study.get_trials(deepcopy=False)
            yield [
                Job(
                    number,
                    [
                        f"{o.get_key_element()}={trials[number].params[o.get_key_element()]}"
                        if o.is_sweep_override()
                        else fixed(o)
                        for o in parsed
                    ],
                )
                for number in numbers
            ]

    def prepare_job(self, job: Job, folder: Path, job_folder: Path) -> None:
        """Tell a job which trial it is; the Pruning callback reads it."""
        if self.use_pruning:
            facts = {
                "storage": f"sqlite:///{folder / STORAGE}",
                "study": STUDY,
                "number": job.number,
                "num_random": self.num_random,
                "pruning_epochs": self.pruning_epochs,
            }
            (job_folder / TRIAL).write_text(json.dumps(facts, indent=2) + "\n")


def _ends(override: Override) -> list[Any]:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return [sweep.start, sweep.end]
    return [*override.sweep_string_iterator()]


def _distribution(override: Override, optuna: Any) -> Any:
    sweep = override.value()
    make = optuna.distributions
    match sweep:
        case IntervalSweep(start=start, end=end):
            is_int = isinstance(start, int) and isinstance(end, int)
            kind = make.IntDistribution if is_int else make.FloatDistribution
            return kind(start, end, log="log" in sweep.tags)
        case RangeSweep() if not sweep.shuffle:
            values = [*sweep.range()]
            is_int = all(isinstance(value, int) for value in values)
            kind = make.IntDistribution if is_int else make.FloatDistribution
            return kind(min(values), max(values), step=abs(sweep.step))
        case ChoiceSweep() | RangeSweep() | Glob():
            return make.CategoricalDistribution([*override.sweep_string_iterator()])
    raise ConfigError(f"{override.input_line}: Optuna cannot search this")
