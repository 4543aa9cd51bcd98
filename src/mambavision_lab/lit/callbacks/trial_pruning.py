"""Stop a trial of an Optuna sweep whose metric is worse than that of earlier trials."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from mambavision_lab.launch.sweeps.jobs import STOPPED_EARLY
from mambavision_lab.launch.sweeps.optuna import STUDY, open_journal

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import JournalStorage


class TrialPruning(Callback):
    """Report a metric to the trial's study after each validation, and stop if its pruner says so.

    Args:
        trial_file: `trial.json` in the run folder, written by the sweep; names study, trial and pruner.
        monitor: Metric to report.
    """

    def __init__(self, trial_file: str | Path, monitor: str) -> None:
        self.monitor = monitor
        self.mark = Path(trial_file).with_name(STOPPED_EARLY)
        self.trial: dict[str, Any] = json.loads(Path(trial_file).read_text())
        self.reason: str | None = None  # for which it has stopped the run

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let rank 0 decide, and stop on all ranks."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        should_stop = trainer.is_global_zero and self._is_bad(trainer)
        if trainer.strategy.broadcast(should_stop):
            trainer.should_stop = True

    def _is_bad(self, trainer: Trainer) -> bool:
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            return False
        epoch = trainer.current_epoch + 1
        study, storage = self._study
        trial_id = storage.get_trial_id_from_study_id_trial_number(
            storage.get_study_id_from_name(STUDY), self.trial["number"]
        )
        storage.set_trial_intermediate_value(trial_id, epoch, float(value))
        should_stop = study.pruner.prune(study, storage.get_trial(trial_id))
        if epoch == trainer.max_epochs or not should_stop:
            return False
        self.mark.touch()
        self.reason = f"{self.monitor} {value:.4f} is worse than that of earlier trials"
        return True

    @cached_property
    def _study(self) -> "tuple[Study, JournalStorage]":
        import optuna

        storage = open_journal(Path(self.trial["journal"]))
        pruner = instantiate(self.trial["pruner"])
        return optuna.load_study(study_name=STUDY, storage=storage, pruner=pruner), storage
