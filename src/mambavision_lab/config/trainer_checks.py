"""Check what the Trainer, its callbacks and the schedule accept when made, and refuse when they run."""

import re
from collections.abc import Iterator
from typing import Any

from mambavision_lab.config.mask_checks import CLASSIFIER, SEGMENTATION
from mambavision_lab.config.signatures import read_signature
from mambavision_lab.config.step_checks import check_step
from mambavision_lab.config.tune_checks import check_tune
from mambavision_lab.counting import counted
from mambavision_lab.errors import ConfigError
from mambavision_lab.metrics import MASK_METRICS, cheap_metrics, metrics_of_predictions

_THROUGHPUT = "mambavision_lab.lit.callbacks.throughput.Throughput"
_GRADIENT_NORM = "mambavision_lab.lit.callbacks.grad_norm.GradientNorm"
_MESA = "mambavision_lab.lit.callbacks.mesa.MESA"
_AVERAGES = ("mambavision_lab.lit.callbacks.ema.EMA", _MESA)
_BEST_CHECKPOINT = "mambavision_lab.lit.callbacks.best_checkpoint.BestCheckpoint"
_LOGGED_BY = {_THROUGHPUT: "train/images_per_s", _GRADIENT_NORM: "train/grad_norm"}

# Part -> what compares the probabilities of classes of which an image has one, and what to choose instead.
_OF_ONE_CLASS = {
    "mambavision_lab.lit.losses.CrossEntropy": "give loss=bce",
    "mambavision_lab.lit.losses.Distillation": "give loss=bce",
    _MESA: "give callbacks=ema",
}

# Option of the Trainer that Lightning divides by -> what zero may have meant.
_ABOVE_ZERO = {
    "limit_train_batches": "eval.py evaluates without training",
    "accumulate_grad_batches": "give 1 to accumulate nothing",
    "val_check_interval": "trainer.limit_val_batches=0 switches validation off",
    "check_val_every_n_epoch": "trainer.limit_val_batches=0 switches validation off",
}


def check_training(cfg: dict[Any, Any]) -> None:
    """Check the plain values of a training's config: monitors, validation, limits, the schedule.

    Raises:
        ConfigError: The first thing found wrong.
    """
    if not cfg.get("optimizer"):
        return  # nothing is trained
    trainer = cfg.get("trainer") or {}
    for name, advice in _ABOVE_ZERO.items():
        if isinstance(value := trainer.get(name), int | float) and value <= 0:
            raise ConfigError(f"trainer.{name}={value}: wanted more than 0; {advice}")
    if (value := trainer.get("deterministic")) not in (None, True, False, "warn"):
        raise ConfigError(f"trainer.deterministic={value}: wanted true, false or warn")
    if _is_multilabel(cfg):
        _check_several_labels(cfg)
    for path, callback in _callbacks(cfg):
        if callback.get("monitor") is not None:
            _check_monitor(path, callback["monitor"], cfg)
            if callback["_target_"].endswith(".EarlyStopping"):
                _check_early_stopping(path, callback, trainer)
        if callback["_target_"] == _BEST_CHECKPOINT:
            _check_filename(path, str(callback.get("filename", "")), cfg)
    _check_schedule(cfg.get("scheduler"))
    check_step(cfg)
    check_tune(cfg)
    _check_optimized_metric(cfg)


def metric_names(cfg: dict[Any, Any]) -> list[str] | None:
    """List what a training logs and a callback may monitor; None where code of the user's logs as well."""
    targets = [callback["_target_"] for _, callback in _callbacks(cfg)]
    classifier = (cfg.get("classifier") or {}).get("_target_")
    ours = ("lightning.", "mambavision_lab.")
    if classifier not in (CLASSIFIER, SEGMENTATION) or not all(
        target.startswith(ours) for target in targets
    ):
        return None
    data = cfg.get("data") or {}
    measured = metrics_of_predictions(data.get("num_classes") or 0, _is_multilabel(cfg))
    measured = MASK_METRICS if classifier == SEGMENTATION else measured
    names = ["val/loss", *(f"val/{name}" for name in measured), "train/loss", "train/loss_step"]
    augment = data.get("augment") or {}
    if not (augment.get("mixup") or augment.get("cutmix")):  # a mixed image has no label to count
        names += [f"train/{name}" for name in cheap_metrics(measured)]
    if any(target in _AVERAGES for target in targets):  # of the raw weights, too
        names += [name.replace("val/", "val_raw/") for name in names if name.startswith("val/")]
    return names + [name for target, name in _LOGGED_BY.items() if target in targets]


def _callbacks(cfg: dict[Any, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, callback in (cfg.get("callbacks") or {}).items():
        if isinstance(callback, dict) and isinstance(callback.get("_target_"), str):
            yield f"callbacks.{key}", callback


def _is_multilabel(cfg: dict[Any, Any]) -> bool:
    return bool((cfg.get("data") or {}).get("is_multilabel"))


def _check_several_labels(cfg: dict[Any, Any]) -> None:
    """Refuse what compares probabilities that sum to 1 where an image has any number of classes."""
    for path, node in [("loss", cfg.get("loss")), *_callbacks(cfg)]:
        target = (node or {}).get("_target_")
        if target in _OF_ONE_CLASS:
            name = target.rpartition(".")[2]
            raise ConfigError(
                f"{path}: {name} is for one class per image, but data.labels_file="
                f"{cfg['data'].get('labels_file')} lists several (column labels); {_OF_ONE_CLASS[target]}"
            )


def _check_monitor(path: str, monitor: Any, cfg: dict[Any, Any]) -> None:
    names = metric_names(cfg)
    if names is None or monitor in (*names, "epoch", "step") or str(monitor).startswith("lr-"):
        return
    raise ConfigError(
        f"{path}.monitor={monitor}: there is no such metric in training; "
        f"choose one of {', '.join(names)}"
    )


def _check_filename(path: str, filename: str, cfg: dict[Any, Any]) -> None:
    """Refuse a metric in a checkpoint's name that is not known when a validation ends."""
    names = metric_names(cfg)
    if names is None:
        return
    known = [
        name
        for name in names
        if not name.startswith("train/") or name in ("train/loss_step", "train/grad_norm")
    ]
    known += ["val/num_images", "epoch", "step"]
    for name in re.findall(r"\{([^}:!]*)", filename):
        if name not in known:
            raise ConfigError(
                f"{path}.filename={filename}: a validation has no {name!r}; it may hold "
                f"{', '.join(f'{{{key}}}' for key in known)}"
            )


def _check_early_stopping(path: str, callback: dict[str, Any], trainer: dict[str, Any]) -> None:
    """Refuse a metric that is not there when early stopping looks at it, which would end the run."""
    monitor, fraction = callback["monitor"], trainer.get("val_check_interval")
    every, max_epochs = trainer.get("check_val_every_n_epoch", 1), trainer.get("max_epochs")
    if callback.get("strict") is False:
        return
    validates_each_epoch = fraction in (None, 1.0) and every == 1
    looks_after_epoch = callback.get("check_on_train_epoch_end")
    if looks_after_epoch is None:
        looks_after_epoch = validates_each_epoch
    if monitor.startswith("val/"):
        if trainer.get("limit_val_batches") == 0:
            raise ConfigError(
                f"{path}.monitor={monitor}: trainer.limit_val_batches=0 validates nothing; "
                "monitor train/loss, or leave trainer.limit_val_batches as it is"
            )
        if max_epochs and every and 0 < max_epochs < every:
            raise ConfigError(
                f"{path}.monitor={monitor}: trainer.check_val_every_n_epoch={every} validates nothing in "
                f"{counted(max_epochs, 'epochs')}; lower it"
            )
        if looks_after_epoch and every != 1:
            raise ConfigError(
                f"{path}.check_on_train_epoch_end=true: the first epochs are not validated with "
                f"trainer.check_val_every_n_epoch={every}; leave it null"
            )
    elif monitor.startswith("train/") and not looks_after_epoch and fraction not in (None, 1.0):
        raise ConfigError(
            f"{path}.monitor={monitor}: is not known when trainer.val_check_interval={fraction} validates "
            f"within an epoch; add +{path}.check_on_train_epoch_end=true"
        )


def _check_optimized_metric(cfg: dict[Any, Any]) -> None:
    """Refuse a metric that the final validation and test do not give."""
    given, names = cfg.get("optimized_metric"), metric_names(cfg)
    if given is None or names is None:
        return
    of_validation = [name for name in names if name.startswith("val/")]
    known = of_validation + [name.replace("val/", "test/") for name in of_validation]
    if given not in known:
        raise ConfigError(
            f"optimized_metric={given}: there is no such metric; choose one of {', '.join(known)}"
        )


def _check_schedule(node: dict[str, Any] | None) -> None:
    if node is None:
        return
    if "_target_" not in node:
        raise ConfigError("scheduler: has no _target_; choose one, such as scheduler=cosine")
    signature = read_signature(node["_target_"])
    if signature is None or signature.is_open:
        return
    missing = {"num_steps", "steps_per_epoch"} - set(signature.parameters)
    if missing:
        raise ConfigError(
            f"scheduler._target_={node['_target_']}: takes no {' and '.join(sorted(missing))}; wanted a "
            "function of (optimizer, num_steps, steps_per_epoch), such as "
            "mambavision_lab.lit.schedule.cosine_with_warmup"
        )
