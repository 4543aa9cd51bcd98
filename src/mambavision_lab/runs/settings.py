"""Settings that fix what a run computes; a checkpoint keeps them, so that a resume can be held to them.

Free to differ are those that a checkpoint does not restore and that do not change the course of training
but by rounding: folders, loggers, callbacks, devices, workers, backends. The length of the run is free as
well; the schedule is sized for the new one.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.renames import upgrade_settings
from mambavision_lab.errors import ConfigError
from mambavision_lab.runs.differences import flatten, setting_text
from mambavision_lab.runs.folder import starts_from_weights
from mambavision_lab.runs.snapshot import FOLDER as SNAPSHOT

_NODES = (
    *("seed", "model", "data", "multi_scale", "classifier", "loss", "optimizer", "scheduler"),
)
_TRAINER = (
    "accumulate_grad_batches",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "overfit_batches",
    "precision",
    "sync_batchnorm",
)
# Of callbacks: what early stopping takes from the checkpoint, and what changes the weights.
_CALLBACK = ("patience", "decay", "use_warmup", "weight", "start", "epochs", "num_stages")
_FREE = (
    "model.pretrained",  # replaced by the checkpoint's weights
    "model.scan_backend",
    "data.root",
    "data.num_workers",
    "data.worker_timeout_s",
    "data.check_files",
    "multi_scale.epochs",  # the length of the run
    "classifier.use_compile",
    "classifier.channels_last",
)

TEACHER = "loss.teacher.source"

Settings = dict[str, Any]


def settings_of(cfg: DictConfig) -> Settings:
    """Collect the settings of a training config that a resumed run must share, by their keys."""
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    nodes = {name: resolved.get(name) for name in _NODES}
    nodes["trainer"] = {k: v for k, v in resolved["trainer"].items() if k in _TRAINER}
    callbacks = {
        key: {name: node[name] for name in _CALLBACK if name in node}
        for key, node in (resolved.get("callbacks") or {}).items()
        if node
    }
    if any(callbacks.values()):
        nodes["callbacks"] = {key: node for key, node in callbacks.items() if node}
    settings = flatten(nodes)
    # The augmentation is a part of the data's node, but a group of its own to the user.
    renamed = {key.replace("data.augment", "augment", 1): value for key, value in settings.items()}
    return {key: value for key, value in renamed.items() if key not in _FREE}


def check_same_as_run(cfg: DictConfig) -> None:
    """Refuse an exact resume with other settings than those in the folder of the checkpoint's run.

    It needs no torch, and so goes before `check_same_settings`, which holds a run to what the checkpoint
    itself keeps. A checkpoint without its run's folder, or of an earlier version, is left to that.

    Raises:
        ConfigError: As in `check_same_settings`.
    """
    file = Path(str(cfg.ckpt_path)).parent.parent / "config.yaml"
    if cfg.ckpt_path is None or starts_from_weights(cfg) or not file.is_file():
        return
    run = OmegaConf.load(file)
    assert isinstance(run, DictConfig)
    if "resume" in run:
        own_seed = {"seed": None} if cfg.seed is None else {}  # it will be the run's
        check_same_settings(cfg, settings_of(run) | own_seed)


def check_same_settings(cfg: DictConfig, before: Settings) -> None:
    """Refuse to resume a run with settings other than its own.

    Raises:
        ConfigError: A setting differs; the message names it, both values, and what to type.
    """
    now, before = upgrade_settings(settings_of(cfg)), upgrade_settings(before)
    changed = [key for key in {**now, **before} if now.get(key) != before.get(key)]
    teacher = str(before.get(TEACHER, ""))
    if TEACHER in changed and Path(teacher).is_absolute() and not Path(teacher).exists():
        changed.remove(TEACHER)  # it was moved
    # A callback may come or go; its state does only with it.
    changed = [k for k in changed if not k.startswith("callbacks.") or (k in now and k in before)]
    if not changed:
        return
    changed.sort(key=lambda key: not key.endswith("._target_"))  # another class explains the rest
    given, kept = (_override(changed[0], settings) for settings in (now, before))
    number = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    run = Path(cfg.ckpt_path).parent.parent
    source = f"from_run={run}" if (run / SNAPSHOT).is_dir() else "the settings of its run"
    wanted = source if number else f"{kept} or {source}"
    raise ConfigError(
        f"{given}{number}: ckpt_path={cfg.ckpt_path} is of a run with {kept}, and restores that; give "
        f"{wanted}, or resume=weights to start from its weights with the new settings"
    )


def _override(key: str, settings: Settings) -> str:
    value = settings.get(key)
    if key.endswith("._target_"):
        key, value = key.removesuffix("._target_"), value and str(value).rpartition(".")[2]
    return f"{key}={'null' if value is None else setting_text(value)}"
