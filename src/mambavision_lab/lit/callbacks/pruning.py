"""Stop a trial of an Optuna sweep that does worse than the earlier ones did by then."""

import json
import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

log = logging.getLogger(__name__)


class Pruning(Callback):
    """Report a figure to the trial's study after each validation, and stop when it asks for that.

    Args:
        trial_file: `trial.json` in the run folder, written by the sweep; names study and trial.
        monitor: Figure to report.
    """

    def __init__(self, trial_file: str | Path, monitor: str) -> None:
        self.monitor = monitor
        self.mark = Path(trial_file).with_name("pruned")
        self.facts = json.loads(Path(trial_file).read_text())
        self._trial: Any = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank 0 asks; all ranks stop together."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        should_stop = trainer.is_global_zero and self._is_bad(trainer)
        if trainer.strategy.broadcast(should_stop):
            trainer.should_stop = True

    def _is_bad(self, trainer: Trainer) -> bool:
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            return False
        import optuna

        if self._trial is None:
            pruner = optuna.pruners.MedianPruner(
                n_startup_trials=self.facts["num_random"],
                n_warmup_steps=self.facts["pruning_epochs"],
            )
            study = optuna.load_study(
                study_name=self.facts["study"], storage=self.facts["storage"], pruner=pruner
            )
            trial_id = study.trials[self.facts["number"]]._trial_id
            self._trial = optuna.Trial(study, trial_id)
        epoch = trainer.current_epoch + 1
        self._trial.report(float(value), epoch)
        if epoch == trainer.max_epochs or not self._trial.should_prune():
            return False
        self.mark.touch()
        log.info("pruned after %d epochs: %s %.4f", epoch, self.monitor, value)
        return True
