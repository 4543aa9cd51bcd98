"""Map names that have changed: modules, options and nodes of configs that earlier versions wrote.

A run folder keeps its config as a snapshot. `upgrade_snapshot` brings one that an earlier version wrote to
today's names while Hydra reads it (see `hydra_plugins/mambavision_lab_run_source.py`); its files stay.
"""

from collections.abc import Mapping
from typing import Any

# Beginnings of module paths, as `_target_` has them.
_MODULES = {
    "lightning.pytorch.loggers.csv_logs.CSVLogger": "mambavision_lab.lit.csv_logger.ResumableCSVLogger",
    "mambavision_lab.data.augment.Augment": "mambavision_lab.data.augment.batch.Augment",
    "mambavision_lab.export.": "mambavision_lab.exporters.",
    "mambavision_lab.launch.sweepers.": "mambavision_lab.launch.sweeps.",
}
# Options that users may still type.
OPTIONS = {
    "classifier.label_smoothing": "loss.smoothing",
    "callbacks.checkpoint.save_last": "callbacks.newest",
    "callbacks.checkpoint.every_n_train_steps": "callbacks.newest.every_n_steps",
    "callbacks.checkpoint.train_time_interval": "callbacks.newest.every_minutes",
    "trainer.max_restarts": "launcher.max_restarts",
    "sweep.n_trials": "sweep.search.n_trials",
    "sweep.num_parallel": "sweep.search.num_parallel",
    "sweep.seed": "sweep.search.seed",
    "sweep.num_random": "sweep.search.num_random",
    "sweep.use_pruning": "sweep.search.use_pruning",
    "sweep.pruning_epochs": "sweep.search.pruning_epochs",
}
# Nodes of a snapshot with options that are other nodes' today.
MOVED_FROM = ("trainer", "classifier")
# Keys of the sweep's node that are the sweep's own; the others are the search's.
_SWEEP_KEYS = ("resume", "devices_per_job")
# Keys of the one checkpoint that runs had before the newest was a callback of its own.
_SAVE_LAST = {"save_last", "dirpath", "enable_version_counter"}
_CHECKPOINT_KEYS = {
    *("_target_", "dirpath", "filename", "auto_insert_metric_name"),
    *("monitor", "mode", "save_top_k", "every_n_epochs", "save_weights_only"),
}
# Options of a node that older runs lack, and the values that mean what those did.
_ADDED: dict[str, tuple[str, dict[str, Any]]] = {
    "data": ("mambavision_lab.data.", {"sampler": "random"}),
    "augment": (
        "mambavision_lab.data.augment.",
        {
            **{"padding": "zeros", "erasing": 0.0, "repeats": 1},
            **{"mixup": 0.0, "cutmix": 0.0, "mix_prob": 1.0, "mix_switch_prob": 0.5},
            "mix_per_image": False,
        },
    ),
    "scheduler": ("mambavision_lab.lit.schedule.cosine_with_warmup", {"cooldown_epochs": 0.0}),
}
_CROSS_ENTROPY = "mambavision_lab.lit.losses.CrossEntropy"  # the only loss there was
_CALLBACKS = "mambavision_lab.lit.callbacks"


def current_target(target: str) -> str:
    """Return today's name of a class or function that earlier versions may have called otherwise."""
    for old, new in _MODULES.items():
        if target.startswith(old):
            return new + target.removeprefix(old)
    return target


def upgrade_snapshot(group: str, node: Any, others: Mapping[str, dict[str, Any]]) -> Any:
    """Bring one file of a snapshot to today's names.

    Args:
        group: Its group, such as "trainer"; "" for the root.
        node: Its content, as plain values.
        others: Content of the snapshot's nodes whose options have moved, by group: `max_restarts` of the
            trainer is the launcher's, `label_smoothing` of the classifier the loss's.

    Returns:
        The content as today's version would have written it.
    """
    node = _renamed(node)
    if not isinstance(node, dict):
        return node
    if group == "trainer":
        node.pop("max_restarts", None)
    elif group == "classifier":
        node.pop("label_smoothing", None)
    elif group == "callbacks":
        node = _upgrade_callbacks(node)
    elif group == "sweep" and "_target_" in node:
        node = upgrade_sweep(node)
    elif not group:
        trainer, classifier = (others.get(name, {}) for name in MOVED_FROM)
        if "max_restarts" in trainer:
            node.setdefault("launcher", {"max_restarts": trainer["max_restarts"] or 0})
        if "label_smoothing" in classifier and "train_schema" in node.get("defaults", ()):
            smoothing = classifier["label_smoothing"]
            node.setdefault("loss", {"_target_": _CROSS_ENTROPY, "smoothing": smoothing})
    return node


def upgrade_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Bring the settings that a checkpoint stores, by key, to today's names, with what is new filled in."""
    settings = {
        key: current_target(value) if key.endswith("._target_") else value
        for key, value in settings.items()
    }
    if "classifier.label_smoothing" in settings:
        smoothing = settings.pop("classifier.label_smoothing")
        settings |= {"loss._target_": _CROSS_ENTROPY, "loss.smoothing": smoothing}
    for node, (owner, added) in _ADDED.items():
        if str(settings.get(f"{node}._target_")).startswith(owner):
            settings = {f"{node}.{key}": value for key, value in added.items()} | settings
    return settings


def upgrade_sweep(node: dict[str, Any]) -> dict[str, Any]:
    """Split a sweep's node into the search and what is the sweep's own."""
    own = {key: node.get(key) for key in _SWEEP_KEYS}
    return {"search": {k: v for k, v in node.items() if k not in _SWEEP_KEYS}, **own}


def _upgrade_callbacks(node: dict[str, Any]) -> dict[str, Any]:
    """Let the best and the newest checkpoint, which were one callback's, each have its own."""
    old = node.get("checkpoint")
    if not isinstance(old, dict) or not _SAVE_LAST <= {*old} <= _SAVE_LAST | _CHECKPOINT_KEYS:
        return node
    best = {key: value for key, value in old.items() if key in _CHECKPOINT_KEYS}
    return {
        **node,
        "checkpoint": {**best, "_target_": f"{_CALLBACKS}.best_checkpoint.BestCheckpoint"},
        "newest": {
            "_target_": f"{_CALLBACKS}.newest_checkpoint.NewestCheckpoint",
            "dirpath": old["dirpath"],
        },
    }


def _renamed(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: current_target(value)
            if key == "_target_" and isinstance(value, str)
            else _renamed(value)
            for key, value in node.items()
        }
    return [_renamed(value) for value in node] if isinstance(node, list) else node
