"""Read what a training run left in its folder; nothing but config.yaml need be there."""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mambavision_lab.config.schema import register
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder

OUTCOME_FILE = "outcome.json"
NOT_SETTINGS = ("paths", "hydra", "name")


@dataclass
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        folder: The run folder.
        curves: Figure -> (steps, values), two arrays; NaN where a figure was NaN.
        metrics: Final figures from metrics.json.
        config: The whole config, flat: `optimizer.lr` -> value.
        differences: (setting, default, value here) for what differs from the defaults.
        provenance: Versions, machine, command; {} where unknown.
        outcome: `status` (finished, interrupted, failed, unknown) and, where known, `error`.
        predictions: Arrays of predictions.npz; {} where no test was run.
    """

    folder: Path
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    differences: list[tuple[str, str, str]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, str] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name and start of the run."""
        return f"{self.config.get('name', self.folder.parent.name)} {self.folder.name}"


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder.

    Raises:
        ConfigError: It is no run folder, or a file in it is damaged.
    """
    folder = Path(folder).resolve()
    if not (folder / "config.yaml").is_file():
        found = "holds no config.yaml" if folder.is_dir() else "is no folder"
        raise ConfigError(
            f"{folder}: {found}; wanted the folder of a training run, such as logs/latest"
        )
    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        assert isinstance(config, dict)
        metrics = _json(folder / "metrics.json")
        outcome = _json(folder / OUTCOME_FILE)
        if not outcome:
            outcome = {"status": "finished" if metrics else "unknown"}
        return RunRecord(
            folder=folder,
            curves=read_curves(folder / "metrics.csv"),
            metrics={k: v for k, v in metrics.items() if isinstance(v, float | int)},
            config=flatten(config),
            differences=_differences(folder),
            provenance=_json(folder / "provenance.json"),
            outcome=outcome,
            predictions=_arrays(folder / "predictions.npz"),
        )
    except (ValueError, OSError, AssertionError, csv.Error) as error:
        raise ConfigError(
            f"{folder}: cannot be read as a run: {' '.join(str(error).split())}"
        ) from error


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Columns of a metrics.csv by step; final figures, written after the training, are left out."""
    if not path.is_file():
        return {}
    points: dict[str, dict[int, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if not row.get("step"):
                continue
            for name, text in row.items():
                if name and text and name not in ("step", "epoch") and not name.startswith("test/"):
                    points.setdefault(name, {}).setdefault(int(float(row["step"])), float(text))
    last = max((max(p) for n, p in points.items() if n.startswith("train/")), default=math.inf)
    curves = {}
    for name, values in points.items():
        steps = sorted(step for step in values if step <= last)
        if steps:
            curves[name] = (np.array(steps), np.array([values[step] for step in steps]))
    return curves


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as one: {"a": {"b": 1}} -> {"a.b": 1}."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{path}.{key}" if path else str(key))
    return flat


def _differences(folder: Path) -> list[tuple[str, str, str]]:
    """Settings, before interpolation, that are not those of a bare `python train.py`."""
    if not (folder / "snapshot" / "snapshot.yaml").is_file():
        return []
    register()
    running = GlobalHydra.instance().hydra  # a report is written while train.py's own is at work
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(configs_folder())):
            composed = hydra.compose("train")
    except (HydraException, OmegaConfBaseException):
        return []  # a run of another version, whose defaults are not here
    finally:
        GlobalHydra.instance().hydra = running
    default = flatten(OmegaConf.to_container(composed, resolve=False))
    actual: dict[str, Any] = {}
    for path in sorted((folder / "snapshot").glob("*/snapshot.yaml")):
        actual |= flatten(OmegaConf.to_container(OmegaConf.load(path)), path.parent.name)
    scalars = flatten(OmegaConf.to_container(OmegaConf.load(folder / "snapshot" / "snapshot.yaml")))
    actual |= {key: value for key, value in scalars.items() if key != "defaults"}
    overrides = folder / "overrides.yaml"
    given = overrides.read_text() if overrides.is_file() else ""
    changed = []
    for key in sorted(default.keys() | actual.keys()):
        if key.partition(".")[0] in NOT_SETTINGS:
            continue
        before, now = default.get(key, "-"), actual.get(key, "-")
        if str(before).startswith("${") and key not in given:
            continue  # follows another setting
        if before == "-" and (str(now).startswith("${") or now == ""):
            continue  # likewise, in a part that the defaults do not have
        if before != now and not (before in ("-", {}, None) and now in ("-", {}, None)):
            if key.endswith("._target_"):
                before, now = (str(name).rpartition(".")[2] for name in (before, now))
            changed.append((key, shown(before), shown(now)))
    return changed


def shown(value: Any) -> str:
    """A setting or a figure as text."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile and numpy raise many kinds for a damaged file
        raise ValueError(f"{path.name} is damaged ({error})") from error
