"""Print what a training is about to do."""

import logging
from pathlib import Path

from lightning.pytorch import Trainer
from omegaconf import DictConfig

from mambavision_lab.counting import counted
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.lit.callbacks.resume import Progress
from mambavision_lab.lit.training_module import TrainingModule
from mambavision_lab.runs.folder import short_path
from mambavision_lab.tasks.build import device_name
from mambavision_lab.tasks.console import human_count, print_panel

log = logging.getLogger(__name__)


def print_start(
    cfg: DictConfig,
    trainer: Trainer,
    classifier: TrainingModule,
    data: ImageDataModule,
    progress: Progress | None,
) -> None:
    """Print and log the network, the data, the settings of the training, and where it starts and writes."""
    splits = data.splits
    sizes = " / ".join(f"{len(split):,}" for split in (splits.train, splits.val, splits.test))  # type: ignore[arg-type]
    num_params = sum(parameter.numel() for parameter in classifier.net.parameters())
    has_end = trainer.max_epochs not in (None, -1)
    ends = (trainer.max_epochs, "epochs") if has_end else (trainer.max_steps, "steps")
    length = counted(ends[0] or 0, ends[1])
    length = length if cfg.tune is None else f"tune={cfg.tune}"
    settings = {
        "model": f"{type(classifier.net).__name__}, {human_count(num_params)} parameters",
        "data": f"{type(data).__name__.removesuffix('DataModule')}, {counted(data.num_classes, 'classes')}, "
        f"{' x '.join(map(str, (data.in_chans, *data.sides)))}, train/val/test {sizes}",
        "training": f"{length}, {_describe_step(cfg, trainer, classifier, data)}, "
        f"precision {trainer.precision}, seed {cfg.seed}",
        "device": device_name(trainer),
        "folder": short_path(Path(cfg.paths.output_dir)),
    }
    if data.multi_scale is not None:
        settings["sizes"] = data.multi_scale.describe(data.image_size)
    if cfg.ckpt_path is not None:
        start = "starts from its weights" if progress is None else f"resumes after {progress}"
        settings["checkpoint"] = f"{short_path(Path(cfg.ckpt_path))}, {start}"
    if cfg.trainer.get("max_time") is not None and cfg.scheduler is not None:
        log.warning(
            "trainer.max_time=%s may end training early: the schedule is sized for %s",
            cfg.trainer.max_time,
            length,
        )
    print_panel(f"train {cfg.name}", settings)
    log.info("; ".join(f"{label}: {value}" for label, value in settings.items()))


def _describe_step(
    cfg: DictConfig, trainer: Trainer, classifier: TrainingModule, data: ImageDataModule
) -> str:
    """Name the images of an optimizer step, the optimizer and the learning rate that follows."""
    step, num_batches = f"batch {data.batch_size}", 1
    for number, unit in (
        (trainer.world_size, "processes"),
        (trainer.accumulate_grad_batches, "accumulated"),
    ):
        step += f" x {number} {unit}" if number > 1 else ""
        num_batches *= number
    if num_batches > 1:
        step += f" = {num_batches * data.batch_size:,} images per step"
    name, rate = cfg.optimizer._target_.rpartition(".")[2], cfg.optimizer.get("lr")
    factor = classifier.lr_factor(trainer)
    if rate is not None and factor != 1:
        rate = f"{rate * factor:.3g} ({rate} x {factor:.3g})"
    return f"{step}, {name} lr {rate}"
