"""Check what a config's groups are: nodes of the right kind, with nothing that a task would ignore."""

import difflib
from typing import Any

from mambavision_lab.config.signatures import read_keys
from mambavision_lab.errors import ConfigError

# Node -> arguments that the task gives it, and what to set instead.
_GIVEN = {
    "trainer": {
        "logger": "choose with logger=none, logger=csv and so on",
        "callbacks": "choose with callbacks=none, or switch one off with ~callbacks.NAME",
    },
    "classifier": {
        "net": "set model",
        "num_classes": "set data.num_classes",
        "is_multilabel": "the data tell",
        "loss": "set loss",
        "batch_size": "set data.batch_size",
        "optimizer": "set optimizer",
        "scheduler": "set scheduler",
        "metadata": "remove it",
    },
}
# Groups that are one object, and those that are several.
_SINGLE = (
    *("model", "data", "augment", "multi_scale", "classifier", "optimizer", "scheduler", "trainer"),
    *("loss", "tta", "guard", "export", "prune"),
)
_SEVERAL = ("callbacks", "logger")
_NO_GROUP = ("classifier", "guard", "prune")
_BACKENDS = "mambavision_lab.ops.selective_scan.backends.registry.BACKENDS"


def check_groups(resolved: dict[str, Any]) -> None:
    """Check the groups of a config, as plain values.

    Raises:
        ConfigError: The first thing found wrong.
    """
    members = {
        f"{group}.{name}": node
        for group in _SEVERAL
        if isinstance(resolved.get(group), dict)
        for name, node in resolved[group].items()
    }
    for key, node in {
        **{key: resolved.get(key) for key in (*_SINGLE, *_SEVERAL)},
        **members,
        "data.augment": _inner(resolved, "data", "augment"),
        "loss.teacher": _inner(resolved, "loss", "teacher"),
    }.items():
        if node is not None and not isinstance(node, dict):
            hint = (
                f"{key}._target_=CLASS"
                if "." in key or key in _NO_GROUP
                else f"a choice of the group {key}"
            )
            raise ConfigError(f"{key}={node}: wanted {hint}; correct it, or remove it")
        if key == "data.augment" and node is not None and "_target_" not in node:
            raise ConfigError(
                f"augment: {', '.join(map(str, node))} set, by the experiment, but augment=none has no such "
                "options; choose another augment"
            )
    for name, arguments in _GIVEN.items():
        for key, advice in arguments.items():
            if key in (resolved.get(name) or {}):
                value = resolved[name][key]
                raise ConfigError(f"{name}.{key}={value}: would be ignored; {advice}")
    _check_ops(resolved.get("ops") or {})


def _inner(resolved: dict[str, Any], key: str, inner: str) -> Any:
    node = resolved.get(key)
    return node.get(inner) if isinstance(node, dict) else None


def suggest(given: str, known: Any) -> str:
    """Suggest the nearest name for a mistyped one, or list them all."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names)}"


def _check_ops(ops: dict[str, Any]) -> None:
    """Check the options of the ops, which no constructor takes."""
    scan = ops.get("selective_scan") or {}
    for where, node, known in (
        ("ops", ops, "selective_scan"),
        ("ops.selective_scan", scan, "backend"),
    ):
        if unknown := [key for key in node if key != known]:
            raise ConfigError(
                f"{where}.{unknown[0]}: no such option; {suggest(unknown[0], [known])}"
            )
    backends = ["auto", *read_keys(_BACKENDS), "reference"]
    if scan and scan.get("backend") not in backends:
        backend = scan.get("backend")
        raise ConfigError(
            f"ops.selective_scan.backend={backend}: no such backend; choose {', '.join(backends)}"
        )
