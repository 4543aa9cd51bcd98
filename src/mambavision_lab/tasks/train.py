"""Train a network, then validate and test its best checkpoint."""

import logging
import secrets
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from omegaconf import DictConfig

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.distributed.run import run_together
from mambavision_lab.launch.sweeps.optuna import TRIAL
from mambavision_lab.lit.callbacks.best_checkpoint import find_best
from mambavision_lab.lit.callbacks.epoch_seed import EpochSeed
from mambavision_lab.lit.callbacks.pruning import Pruning
from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.lit.loggers import log_snapshot, restore_csv_metrics
from mambavision_lab.models.saved import load_checkpoint, load_weights
from mambavision_lab.runs.folder import is_resuming, open_run_folder, short_path, write_json
from mambavision_lab.tasks.build import (
    build,
    build_classifier,
    build_data,
    build_net,
    build_trainer,
    device_name,
    metadata,
)
from mambavision_lab.tasks.console import human_count, print_panel, print_results
from mambavision_lab.tasks.report import report_at_end

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
    if cfg.seed is None:
        cfg.seed = secrets.randbelow(2**31)  # chosen here, so that it is recorded and shared
    return run_together(_train, cfg, prepare=lambda: build_data(cfg).prepare_data())


def _train(cfg: DictConfig) -> float | None:
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = build_data(cfg)
    data.setup("fit")
    classifier = build_classifier(
        cfg,
        build_net(cfg),
        data.num_classes,
        optimizer=build(cfg.optimizer, "optimizer"),
        scheduler=build(cfg.scheduler, "scheduler"),
        metadata=metadata(cfg, data),
    )
    metric_names = classifier.metric_names()
    if cfg.optimized_metric not in metric_names:
        raise ConfigError(
            f"optimized_metric={cfg.optimized_metric}: there is no such metric; "
            f"choose one of {', '.join(metric_names)}"
        )
    if cfg.ckpt_path is not None:
        checkpoint = load_checkpoint(cfg.ckpt_path)
        load_weights(classifier, checkpoint, cfg.ckpt_path)
        epochs_done = checkpoint["epoch"] + 1
        if not is_resuming(cfg) and 0 <= (cfg.trainer.max_epochs or -1) <= epochs_done:
            raise ConfigError(
                f"ckpt_path={cfg.ckpt_path}: has {epochs_done} epochs, and "
                f"trainer.max_epochs={cfg.trainer.max_epochs}; raise trainer.max_epochs"
            )
    folder = Path(cfg.paths.output_dir)
    trial = folder / TRIAL  # written by an Optuna sweep
    pruning = [Pruning(trial, cfg.optimized_metric)] if trial.is_file() else []
    trainer = build_trainer(cfg, EpochSeed(cfg.seed), *pruning)
    if trainer.is_global_zero:
        open_run_folder(cfg, is_latest=True)
        log_snapshot(trainer.loggers, folder)
        if is_resuming(cfg):
            restore_csv_metrics(trainer.loggers, checkpoint["global_step"])
        _print_start(cfg, trainer, classifier, data, folder)
    with report_at_end(trainer, folder):
        trainer.fit(classifier, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True)
        best, weights = find_best(trainer)
        log.info("metrics of the %s", weights)
        metrics = _final_metrics(trainer, classifier, data, best)
        if trainer.is_global_zero:
            write_json(metrics, folder / "metrics.json")
    if trainer.is_global_zero:
        print_results(f"{cfg.name}, {weights}", metrics, folder)
    return metrics.get(cfg.optimized_metric)


def _final_metrics(
    trainer: Trainer, classifier: ImageClassifier, data: ImageDataModule, best: str | None
) -> dict[str, float]:
    """Validate and test the best checkpoint, or the last weights where none was written."""
    metrics: dict[str, float] = {}
    for evaluate in (trainer.validate, trainer.test):
        for results in evaluate(  # none where the split is switched off, as by limit_test_batches=0
            classifier, datamodule=data, ckpt_path=best, verbose=False, weights_only=True
        ):
            metrics |= results
    return metrics


def _print_start(
    cfg: DictConfig,
    trainer: Trainer,
    classifier: ImageClassifier,
    data: ImageDataModule,
    folder: Path,
) -> None:
    splits = data.splits
    sizes = " / ".join(f"{len(split):,}" for split in (splits.train, splits.val, splits.test))  # type: ignore[arg-type]
    num_params = sum(parameter.numel() for parameter in classifier.net.parameters())
    settings = {
        "model": f"{type(classifier.net).__name__}, {human_count(num_params)} parameters",
        "data": f"{type(data).__name__.removesuffix('DataModule')}, {data.num_classes} classes, "
        f"{data.in_chans} x {data.image_size} x {data.image_size}, train/val/test {sizes}",
        "training": f"{trainer.max_epochs} epochs, batch {data.batch_size}, "
        f"{cfg.optimizer._target_.rpartition('.')[2]} "
        f"lr {cfg.optimizer.get('lr')}, precision {trainer.precision}, seed {cfg.seed}",
        "device": device_name(trainer),
        "folder": short_path(folder),
    }
    print_panel(f"train {cfg.name}", settings)
    log.info("; ".join(f"{label}: {value}" for label, value in settings.items()))
