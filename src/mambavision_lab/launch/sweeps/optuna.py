"""Search with Optuna's TPE sampler, its study logged in a file of the sweep's folder.

A trial and its job share their number. A trial is written with all its values at once, and stays open
until its job's record has a result; a resumed sweep runs the open trials again, with their values.
`optuna-dashboard optuna.journal` shows the study.
"""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
)

from mambavision_lab.errors import ConfigError, missing_extra, reason
from mambavision_lab.files import write_atomically
from mambavision_lab.launch.sweeps.search import Job, text_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage
    from optuna.trial import FrozenTrial

JOURNAL = "optuna.journal"
OLD_STORAGE = "optuna.db"  # SQLite, written by earlier versions
TRIAL = "trial.json"
STUDY = "sweep"


class OptunaSearch:
    """Sample trials from intervals (`interval(1e-4,1e-2)`, `tag(log,interval(...))`) and choices.

    Args:
        n_trials: Number of trials in all, including those before a resume.
        num_parallel: Number of trials sampled at once.
        seed: Seed of the sampler.
        num_random: Number of random trials before TPE takes over and before any trial is pruned.
        use_pruning: Whether to stop a trial whose metric is worse than the median of the earlier ones.
        pruning_epochs: Number of epochs before a trial may be pruned.
    """

    def __init__(
        self,
        n_trials: int = 20,
        num_parallel: int = 1,
        seed: int | None = 0,
        num_random: int = 5,
        use_pruning: bool = True,
        pruning_epochs: int = 1,
    ) -> None:
        for name, value in (("n_trials", n_trials), ("num_parallel", num_parallel)):
            if value < 1:
                raise ConfigError(f"sweep.search.{name}={value}: wanted at least 1")
        self.n_trials = n_trials
        self.num_parallel = num_parallel
        self.seed = seed
        self.num_random = num_random
        self.use_pruning = use_pruning
        self.pruning_epochs = pruning_epochs

    @staticmethod
    def probes(parsed: Sequence[Override]) -> Iterator[list[str]]:
        """Yield jobs with each choice once, and with both ends of each interval."""
        if importlib.util.find_spec("optuna") is None:
            raise missing_extra("sweep=optuna", "the package optuna", "optuna")
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
                    text_of(override)
                    if ends is None
                    else f"{key}={option if i == varied else ends[0]}"
                    for i, (key, ends, override) in enumerate(
                        zip(keys, values, parsed, strict=True)
                    )
                ]

    def batches(
        self,
        parsed: Sequence[Override],
        folder: Path,
        records: dict[int, dict[str, Any]],
        *,
        minimize: bool,
    ) -> Iterator[list[Job]]:
        """Yield interrupted trials, then new ones until there are `n_trials`."""
        import optuna
        from optuna.trial import TrialState

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = _open_study(folder, minimize)
        # A resumed sweep must not sample its first values again.
        seed = None if self.seed is None else self.seed + len(study.trials)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self.num_random, constant_liar=True
        )
        space = {o.get_key_element(): _distribution(o) for o in parsed if o.is_sweep_override()}
        while True:
            # Those that ended since the last batch, or just before the sweep was interrupted.
            for trial in study.get_trials(states=[TrialState.RUNNING]):
                _tell(study, trial.number, records.get(trial.number, {}))
            num_open = len(study.get_trials(deepcopy=False, states=[TrialState.RUNNING]))
            num_left = self.n_trials - len(study.get_trials(deepcopy=False))
            _add_trials(study, sampler, space, min(self.num_parallel - num_open, num_left))
            trials = study.get_trials(states=[TrialState.RUNNING])[: self.num_parallel]
            if not trials:
                return
            yield [self._job(trial, parsed, folder) for trial in trials]

    def _job(self, trial: "FrozenTrial", parsed: Sequence[Override], folder: Path) -> Job:
        overrides = [
            f"{o.get_key_element()}={trial.params[o.get_key_element()]}"
            if o.is_sweep_override()
            else text_of(o)
            for o in parsed
        ]
        if not self.use_pruning:
            return Job(trial.number, overrides)
        for_pruning = {  # read by the Pruning callback
            "journal": str(folder / JOURNAL),
            "number": trial.number,
            "pruner": {
                "_target_": "optuna.pruners.MedianPruner",
                "n_startup_trials": self.num_random,
                "n_warmup_steps": self.pruning_epochs,
            },
        }
        return Job(trial.number, overrides, {TRIAL: json.dumps(for_pruning, indent=2) + "\n"})


def open_journal(path: Path) -> "JournalStorage":
    """Open the file that logs a study; processes on several machines may share it, also over NFS."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


def _open_study(folder: Path, minimize: bool) -> "Study":
    """Open the study of a sweep's folder, or make one; trials of an earlier version are copied.

    Raises:
        ConfigError: The earlier version's trials cannot be read.
    """
    import optuna
    from optuna.trial import TrialState

    journal, old = folder / JOURNAL, folder / OLD_STORAGE
    if journal.is_file():
        log = journal.read_bytes()
        if not log.endswith(b"\n"):  # a full disk cut the last line, and Optuna would stop there
            write_atomically(journal, log[: log.rfind(b"\n") + 1])
    elif old.is_file():
        unfinished = journal.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        try:
            optuna.copy_study(
                from_study_name=STUDY,
                from_storage=f"sqlite:///{old}",
                to_storage=open_journal(unfinished),
            )
            copied = optuna.load_study(study_name=STUDY, storage=open_journal(unfinished))
            for trial in copied.get_trials(states=[TrialState.RUNNING]):
                if not trial.params:  # lost between Optuna's writes
                    copied.tell(trial.number, state=TrialState.FAIL)
        except Exception as error:
            raise ConfigError(
                f"sweep.resume={folder}: its {OLD_STORAGE} cannot be read ({reason(error)}); "
                "start a new sweep"
            ) from error
        unfinished.replace(journal)
    return optuna.create_study(
        storage=open_journal(journal),
        study_name=STUDY,
        load_if_exists=True,
        direction="minimize" if minimize else "maximize",
    )


def _add_trials(
    study: "Study", sampler: "BaseSampler", space: "dict[str, BaseDistribution]", count: int
) -> None:
    """Sample trials and add each in one write, so that none is left without its values."""
    import optuna
    from optuna.trial import TrialState, create_trial

    copy = optuna.create_study(direction=study.direction, sampler=sampler)
    copy.add_trials(study.get_trials(deepcopy=False))
    for _ in range(count):
        sampled = copy.ask(space)
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=sampled.params,
                distributions=sampled.distributions,
            )
        )


def _tell(study: "Study", number: int, record: dict[str, Any]) -> None:
    """Close a trial if its job has a result."""
    from optuna.trial import TrialState

    match record.get("status"):
        case "done":
            value = record.get("value")
            if value is None or value != value:
                study.tell(number, state=TrialState.FAIL)  # nothing to learn from
            else:
                study.tell(number, value)
        case "pruned":
            study.tell(number, state=TrialState.PRUNED)
        case "failed":
            study.tell(number, state=TrialState.FAIL)


def _ends(override: Override) -> list[Any]:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return [sweep.start, sweep.end]
    return [*override.sweep_string_iterator()]


def _distribution(override: Override) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    match sweep:
        case IntervalSweep(start=start, end=end):
            is_int = isinstance(start, int) and isinstance(end, int)
            kind: Any = IntDistribution if is_int else FloatDistribution
            return kind(start, end, log="log" in sweep.tags)
        case RangeSweep() if not sweep.shuffle:
            values = [*sweep.range()]
            is_int = all(isinstance(value, int) for value in values)
            kind = IntDistribution if is_int else FloatDistribution
            return kind(min(values), max(values), step=abs(sweep.step))
        case ChoiceSweep() | RangeSweep() | Glob():
            return CategoricalDistribution([*override.sweep_string_iterator()])
    raise ConfigError(f"{override.input_line}: Optuna cannot search this")
