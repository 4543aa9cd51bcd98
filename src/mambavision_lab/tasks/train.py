"""Train a network, then validate and test its best checkpoint."""

import logging
import secrets
import warnings
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.step_checks import accumulated_batches
from mambavision_lab.counting import counted
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.distributed.run import run_together
from mambavision_lab.launch.sweeps.jobs import is_sweep_job
from mambavision_lab.launch.sweeps.optuna import TRIAL
from mambavision_lab.lit.callbacks.batch_seed import BatchSeed
from mambavision_lab.lit.callbacks.best_checkpoint import find_best
from mambavision_lab.lit.callbacks.preemption import Preemption
from mambavision_lab.lit.callbacks.resume import (
    Resume,
    has_open_epoch,
    read_progress,
)
from mambavision_lab.lit.callbacks.trial_pruning import TrialPruning
from mambavision_lab.lit.loggers import log_snapshot, resume_loggers
from mambavision_lab.lit.training_module import TrainingModule
from mambavision_lab.models.saved import load_checkpoint, load_weights
from mambavision_lab.runs.folder import (
    is_resuming,
    open_run_folder,
    starts_from_weights,
    write_json,
)
from mambavision_lab.runs.settings import TEACHER, check_same_settings
from mambavision_lab.tasks.build import (
    build,
    build_classifier,
    build_data,
    build_loss,
    build_multi_scale,
    build_net,
    build_optimizer,
    build_trainer,
    build_tta,
    metadata,
)
from mambavision_lab.tasks.console import print_next_steps, print_results
from mambavision_lab.tasks.early_end import print_early_end
from mambavision_lab.tasks.prune import start_from_pruned
from mambavision_lab.tasks.report import report_at_end
from mambavision_lab.tasks.start_checks import check_schedule, check_start
from mambavision_lab.tasks.start_panel import print_start
from mambavision_lab.tasks.tune import tune, tuning_trainer

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> float | None:
    """Fit, then validate and test the best checkpoint, and write the metrics to `metrics.json`.

    Runs in as many processes as the trainer has devices.

    Args:
        cfg: The composed config, as in `configs/train.yaml`.

    Returns:
        The metric named by `cfg.optimized_metric`.

    Raises:
        ConfigError: A setting or the data cannot be used.
    """
    if cfg.ckpt_path is not None and not starts_from_weights(cfg):
        _check_resume(cfg)
    if cfg.prune is not None:
        start_from_pruned(cfg)
    if cfg.seed is None:
        cfg.seed = secrets.randbelow(2**31)  # chosen here, so that it is recorded and shared
    return run_together(_train, cfg, prepare=lambda: build_data(cfg).prepare_data())


def _train(cfg: DictConfig) -> float | None:
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = build_data(cfg)
    data.seed_training(cfg.seed)
    data.setup("fit")
    net = build_net(cfg)
    data.multi_scale = build_multi_scale(cfg, net, data)
    classifier = build_classifier(
        cfg,
        net,
        data.metadata(),
        batch_size=data.batch_size,
        optimizer=build_optimizer(cfg, net),
        scheduler=build(cfg.scheduler, "scheduler"),
        loss=build_loss(cfg, data),
        metadata=metadata(cfg, data),
    )
    classifier.tta = build_tta(cfg, net, data)
    if data.multi_scale is not None:
        classifier.is_dynamic = False  # torch takes minutes over windows of any size
    metric_names = classifier.metric_names()
    if cfg.optimized_metric not in metric_names:
        raise ConfigError(
            f"optimized_metric={cfg.optimized_metric}: there is no such metric; "
            f"choose one of {', '.join(metric_names)}"
        )
    progress = None
    if cfg.ckpt_path is not None:
        checkpoint = load_checkpoint(cfg.ckpt_path)
        load_weights(classifier, checkpoint, cfg.ckpt_path)
        if not starts_from_weights(cfg):
            progress = read_progress(checkpoint)
            data.resume_at(progress.epochs, progress.batches)
    folder = Path(cfg.paths.output_dir)
    trainer = _make_trainer(cfg, folder)
    check_start(trainer, net, data)
    if cfg.tune is None:
        check_schedule(trainer, classifier, data)
    latest = Path(cfg.paths.log_dir, "latest")
    is_first = not latest.exists()
    if trainer.is_global_zero:
        open_run_folder(cfg, is_latest=cfg.tune is None)
        if is_resuming(cfg):
            num_steps, is_open = checkpoint["global_step"], has_open_epoch(checkpoint)
            resume_loggers(trainer.loggers, num_steps, is_open)
        else:
            log_snapshot(trainer.loggers, folder)
        print_start(cfg, trainer, classifier, data, progress)
    if cfg.tune is not None:
        tune(cfg, trainer, classifier, data, folder)
        return None
    with report_at_end(trainer, folder):
        resumed = None if progress is None else cfg.ckpt_path
        trainer.fit(classifier, datamodule=data, ckpt_path=resumed, weights_only=True)
        print_early_end(trainer)
        best = find_best(trainer)
        log.info("metrics of the %s", best.words)
        metrics = _final_metrics(trainer, classifier, data, best.path)
        if trainer.is_global_zero:
            place = {"epoch": best.epoch, "step": best.step}
            write_json(place | metrics, folder / "metrics.json")
    if trainer.is_global_zero:
        views = f"; test with {classifier.tta}" if classifier.tta else ""
        print_results(f"{cfg.name}, {best.words}{views}", metrics, folder)
        if is_first and not is_sweep_job(folder):
            print_next_steps(latest, cfg.model._target_.startswith("mambavision_lab.models."))
    return metrics.get(cfg.optimized_metric)


def _make_trainer(cfg: DictConfig, folder: Path) -> Trainer:
    """Make the trainer, which accumulates as many batches as `data.global_batch_size` takes."""
    if cfg.tune is not None:
        trainer = tuning_trainer(cfg)
    else:
        trial = folder / TRIAL  # written by an Optuna sweep
        pruning = [TrialPruning(trial, cfg.optimized_metric)] if trial.is_file() else []
        trainer = build_trainer(cfg, Resume(), BatchSeed(cfg.seed), Preemption(), *pruning)
    trainer.accumulate_grad_batches = accumulated_batches(
        cfg.data, trainer.accumulate_grad_batches, trainer.world_size
    )
    return trainer


def _check_resume(cfg: DictConfig) -> None:
    """Refuse to resume what cannot be resumed as it is; a seed that is not given is the checkpoint's.

    Raises:
        ConfigError: The checkpoint holds weights alone, its run has other settings, or has ended.
    """
    checkpoint = load_checkpoint(cfg.ckpt_path, use_mmap=True)
    if "optimizer_states" not in checkpoint:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: holds weights alone, from which no run can be resumed; "
            "give resume=weights to start from them"
        )
    settings = checkpoint["hyper_parameters"].get("settings")
    if settings is None:
        log.warning("ckpt_path=%s: an earlier version wrote it, without settings", cfg.ckpt_path)
    else:
        if cfg.seed is None:
            cfg.seed = settings["seed"]
        check_same_settings(cfg, settings)
        if settings.get(TEACHER) != (teacher := OmegaConf.select(cfg, TEACHER)):
            log.warning(
                "%s=%s: has to be the teacher of before, %s, which is gone",
                *(TEACHER, teacher, settings.get(TEACHER)),
            )
    if is_resuming(cfg):
        return  # the end of training may be followed by an interrupted test
    progress, num_steps = read_progress(checkpoint), checkpoint["global_step"]
    if 0 <= cfg.trainer.get("max_steps", -1) <= num_steps:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: has {counted(num_steps, 'steps')}, and "
            f"trainer.max_steps={cfg.trainer.max_steps}; raise trainer.max_steps"
        )
    if 0 <= (cfg.trainer.max_epochs or -1) <= progress.epochs:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: has {counted(progress.epochs, 'epochs')}, and "
            f"trainer.max_epochs={cfg.trainer.max_epochs}; raise trainer.max_epochs"
        )


def _final_metrics(
    trainer: Trainer, classifier: TrainingModule, data: ImageDataModule, best: str | None
) -> dict[str, float]:
    """Validate and test the best checkpoint, or the last weights where none was written."""
    # Averages of the weights are in the checkpoint; their callback would put others in their place.
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need.*")
    trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
    metrics: dict[str, float] = {}
    for evaluate in (trainer.validate, trainer.test):
        for results in evaluate(  # none where the split is switched off, as by limit_test_batches=0
            classifier, datamodule=data, ckpt_path=best, verbose=False, weights_only=True
        ):
            metrics |= results
    return metrics
