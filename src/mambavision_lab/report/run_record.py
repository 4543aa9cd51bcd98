"""Read a training run's folder; only config.yaml has to be there."""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.runs.differences import Difference, flatten, read_differences

OUTCOME_FILE = "outcome.json"


@dataclass
class RunRecord:
    """Contents of a run folder.

    Attributes:
        folder: The run folder.
        curves: Metric -> (steps, values), two arrays; NaN where the metric was NaN.
        metrics: Final metrics, of metrics.json.
        config: The whole config, flat: `optimizer.lr` -> value.
        differences: (setting, default, value here) for what differs from the defaults; None where
            that is unknown.
        provenance: Versions, machine, command; {} where unknown.
        outcome: `status` (finished, interrupted, failed, unknown) and, where known, `error`.
        predictions: Arrays of predictions.npz; {} where no test was run.
    """

    folder: Path
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    differences: list[Difference] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, str] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name and start time of the run."""
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
            differences=read_differences(folder),
            provenance=_json(folder / "provenance.json"),
            outcome=outcome,
            predictions=_arrays(folder / "predictions.npz"),
        )
    except (ValueError, OSError, AssertionError, csv.Error) as error:
        raise ConfigError(f"{folder}: cannot be read as a run: {reason(error)}") from error


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the columns of a metrics.csv by step, without the final metrics, written after training."""
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
