"""Keep the checkpoints with the best validations of a training."""

import logging
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import BEST_CHECKPOINT, link
from mambavision_lab.lit.callbacks.ema import AVERAGED, RAW, raw_name, with_weights
from mambavision_lab.metrics import format_metric
from mambavision_lab.models.saved import load_checkpoint

log = logging.getLogger(__name__)

_ONLY_TO_RESUME = {
    "callbacks",
    "optimizer_states",
    "lr_schedulers",
    "current_model_state",
    "averaging_state",
}


class Validation(NamedTuple):
    """When weights were validated, and their score."""

    score: float
    epoch: int  # from 0, as in metrics.csv
    step: int  # optimizer steps before it
    kind: str | None = None  # of weights: averaged or raw, where there are both


class FinalWeights(NamedTuple):
    """The weights that a training is judged by: those of its best checkpoint, or else the last ones."""

    path: str | None  # None for the last ones
    words: str  # what they are
    epoch: int  # in which they were reached, from 1 as printed
    step: int


class BestCheckpoint(Checkpoint):
    """Keep the checkpoints with the best validations; a file's score is always that of its own weights.

    It is written after a validation and before the next step of training. Of equal scores the later wins.
    Where `EMA` validates two kinds of weights, the better one is scored and becomes the file's `state_dict`.

    Args:
        dirpath: Folder of the files.
        monitor: Metric of the validation, such as `val/acc1`.
        mode: "max" or "min".
        filename: Name without suffix; may hold `{epoch}`, `{step}` and metrics, such as `{val/acc1:.3f}`.
        auto_insert_metric_name: Write `{epoch}` as `epoch=3` rather than `3`.
        save_top_k: How many checkpoints to keep, -1 for all. With more than one, a name that tells them not
            apart is extended by epoch and step, and `best.ckpt` is the best of them.
        every_n_epochs: Consider the validations of every so many epochs.
        save_weights_only: Leave out what only a resumed run needs, such as the optimizer's state.

    Raises:
        ConfigError: monitor is no metric of the validation, or mode is unknown.
    """

    def __init__(
        self,
        dirpath: str | Path,
        monitor: str,
        mode: str,
        *,
        filename: str = "best",
        auto_insert_metric_name: bool = True,
        save_top_k: int = 1,
        every_n_epochs: int = 1,
        save_weights_only: bool = False,
    ) -> None:
        if not monitor.startswith("val/"):
            raise ConfigError(
                f"callbacks.checkpoint.monitor={monitor}: wanted a metric of the validation, such as val/acc1"
            )
        if every_n_epochs < 1:
            raise ConfigError(
                f"callbacks.checkpoint.every_n_epochs={every_n_epochs}: wanted 1 or more"
            )
        if mode not in ("max", "min"):
            raise ConfigError(f"callbacks.checkpoint.mode={mode}: wanted max or min")
        self.dirpath = Path(dirpath)
        self.monitor = monitor
        self.mode = mode
        self.filename = filename
        if auto_insert_metric_name:
            self.filename = re.sub(r"\{([^}:]+)", r"\1={\1", filename)
        self.every_n_epochs = every_n_epochs
        if save_top_k < -1:
            raise ConfigError(
                f"callbacks.checkpoint.save_top_k={save_top_k}: wanted a number of checkpoints, or -1 for all"
            )
        self.save_top_k = save_top_k
        self.save_weights_only = save_weights_only
        self.kept: dict[str, Validation] = {}  # by name of the file
        self._newest: tuple[str, Validation] | None = None  # with the name of its file
        self._saved: Validation | None = None  # whose weights are being saved

    @property
    def best_model_path(self) -> str:
        """Path of the best checkpoint; "" where there is none."""
        return str(self.dirpath / max(self.kept, key=self._rank_of)) if self.kept else ""

    @property
    def best_validation(self) -> Validation | None:
        """The validation of the best checkpoint; None where there is none."""
        return max(self.kept.values(), key=self._rank, default=None)

    @property
    def state_key(self) -> str:
        """One entry in a checkpoint for each monitored metric."""
        return f"{type(self).__name__}({self.monitor})"

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, by name of the file."""
        return {"monitor": self.monitor, "kept": {name: [*v] for name, v in self.kept.items()}}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Find what an interrupted run has kept; a run that starts in a new folder has kept nothing."""
        start = Path(trainer.ckpt_path or "").resolve().parent
        if trainer.state.fn == TrainerFn.FITTING and start == self.dirpath.resolve():
            found = self._find_kept(checkpoint) if trainer.is_global_zero else {}
            self.kept = trainer.strategy.broadcast(found)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the score; where the epoch continues, the weights are kept now.

        Raises:
            ConfigError: There is no such metric.
        """
        is_training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not is_training or trainer.fast_dev_run or self.save_top_k == 0:  # type: ignore[attr-defined]
            return
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.monitor not in metrics:
            names = ", ".join(name for name in metrics if name.startswith("val/"))
            raise ConfigError(f"monitor={self.monitor}: no such metric; choose one of {names}")
        score, kind = trainer.strategy.broadcast(self._score(metrics))
        validation = Validation(score, trainer.current_epoch, trainer.global_step, kind)
        self._newest = (self._name(validation, metrics), validation)
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._consider(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights of a validation at the epoch's end: a run can resume from here."""
        self._consider(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a best checkpoint hold the kind of weights whose score it has; other callbacks come before."""
        if self._saved is None:
            return
        if self._saved.kind is not None:
            checkpoint |= with_weights(checkpoint, self._saved.kind)
        if self.save_weights_only:
            for name in _ONLY_TO_RESUME & checkpoint.keys():
                del checkpoint[name]

    def _score(self, metrics: dict[str, float]) -> tuple[float, str | None]:
        """Return the score of the better kind of weights, and which it is."""
        score, raw_score = metrics[self.monitor], metrics.get(raw_name(self.monitor))
        if raw_score is None:
            return score, None
        is_better = raw_score > score if self.mode == "max" else raw_score < score
        return (raw_score, RAW) if is_better else (score, AVERAGED)

    def _consider(self, trainer: Trainer) -> None:
        """Keep the weights that were validated last if their score is among the best."""
        if self._newest is None:
            return
        name, validation = self._newest
        self._newest = None
        worst = min(map(self._rank, self.kept.values()), default=(-math.inf, 0))
        if math.isnan(validation.score):
            log.warning("%s is NaN at step %d: not kept", self.monitor, validation.step)
        elif not 0 < self.save_top_k <= len(self.kept) or self._rank(validation) >= worst:
            self._keep(trainer, name, validation)

    def _keep(self, trainer: Trainer, name: str, validation: Validation) -> None:
        others = sorted((other for other in self.kept if other != name), key=self._rank_of)
        num_dropped = max(0, len(others) + 1 - self.save_top_k) if self.save_top_k > 0 else 0
        self.kept = {other: self.kept[other] for other in others[num_dropped:]} | {name: validation}
        self._saved = validation
        trainer.save_checkpoint(self.dirpath / name, weights_only=False)
        self._saved = None
        for other in others[:num_dropped]:
            trainer.strategy.remove_checkpoint(self.dirpath / other)
        path, best = self.dirpath / name, self.dirpath / Path(BEST_CHECKPOINT).name
        if trainer.is_global_zero and self.best_model_path == str(path) != str(best):
            link(path, best)

    def _name(self, validation: Validation, metrics: dict[str, float]) -> str:
        values: dict[str, float] = {**metrics, "epoch": validation.epoch, "step": validation.step}
        try:
            name = self.filename.format(**values)
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigError(
                f"filename={self.filename}: cannot be filled in ({reason(error)}); it may hold "
                f"{', '.join(f'{{{key}}}' for key in values)}"
            ) from error
        same = self.kept.get(f"{name}.ckpt", validation)
        if self.save_top_k != 1 and (name == self.filename or same.step != validation.step):
            name = f"{name}-epoch{validation.epoch}-step{validation.step}"
        return f"{name}.ckpt"

    def _rank(self, validation: Validation) -> tuple[float, int]:
        return (validation.score if self.mode == "max" else -validation.score), validation.step

    def _rank_of(self, name: str) -> tuple[float, int]:
        return self._rank(self.kept[name])

    def _find_kept(self, checkpoint: dict[str, Any]) -> dict[str, Validation]:
        """Find the files that are still there, with the score that each was saved with.

        A file may be newer than the checkpoint: the run was interrupted between the two.
        """
        kept = {}
        for name, known in self._read_kept(checkpoint).items():
            if not (self.dirpath / name).is_file():
                continue
            try:
                saved = load_checkpoint(self.dirpath / name, use_mmap=True)
            except ConfigError as error:
                log.warning("%s", error)
                continue
            for validation in (self._read_kept(saved).get(name), known):
                if validation and validation.step == saved["global_step"]:
                    kept[name] = validation
                    break
        return kept

    def _read_kept(self, checkpoint: dict[str, Any]) -> dict[str, Validation]:
        """Read what a checkpoint says of the best ones, also one that Lightning's ModelCheckpoint wrote."""
        kept = {}
        for state in checkpoint.get("callbacks", {}).values():
            if state.get("monitor") == self.monitor:
                epoch, step = checkpoint["epoch"], checkpoint["global_step"]
                for path, score in state.get("best_k_models", {}).items():
                    kept[Path(path).name] = Validation(float(score), epoch, step)
                kept |= {name: Validation(*v) for name, v in state.get("kept", {}).items()}
        return kept


def find_best(trainer: Trainer) -> FinalWeights:
    """Find the best checkpoint that a training has kept; where there is none, the last weights."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint) and (best := callback.best_validation):
            score = f"{callback.monitor} {format_metric(callback.monitor, best.score)}"
            weights = f" ({best.kind} weights)" if best.kind else ""
            words = f"best of epoch {best.epoch + 1}, step {best.step}{weights}: {score}"
            return FinalWeights(callback.best_model_path, words, best.epoch + 1, best.step)
        if isinstance(callback, ModelCheckpoint):  # Lightning's own, if the user wants it
            path = Path(callback.best_model_path)
            if path.is_file() and path.parent == Path(callback.dirpath or ""):  # of this run
                saved = load_checkpoint(path, use_mmap=True)
                epoch, step = saved["epoch"] + 1, saved["global_step"]
                words = f"best of epoch {epoch}, step {step}: {path.name}"
                return FinalWeights(str(path), words, epoch, step)
    is_averaged = any(isinstance(c, WeightAveraging) for c in trainer.callbacks)  # type: ignore[attr-defined]
    kind = f"{AVERAGED} weights" if is_averaged else "weights"
    epoch, step = max(1, trainer.current_epoch), trainer.global_step
    return FinalWeights(None, f"last {kind}, step {step}", epoch, step)
