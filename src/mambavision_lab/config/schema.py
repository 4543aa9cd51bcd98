"""The root of each config, typed: a wrong type or an unknown key at the top is refused by Hydra."""

from dataclasses import dataclass
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore


@dataclass
class TrainConfig:
    """Keys of `configs/train.yaml`; groups are checked against the signatures of their targets."""

    uses_snapshot: ClassVar[bool] = False

    name: str = "???"
    seed: int | None = None
    ckpt_path: str | None = None
    optimized_metric: str = "val/acc1"
    model: Any = "???"
    data: Any = "???"
    augment: Any = None
    classifier: Any = "???"
    optimizer: Any = "???"
    scheduler: Any = None
    trainer: Any = "???"
    launcher: Any = None
    callbacks: Any = None
    logger: Any = None
    paths: Any = "???"
    ops: Any = "???"
    sweep: Any = None


@dataclass
class EvalConfig:
    """Keys of `configs/eval.yaml`."""

    uses_snapshot: ClassVar[bool] = True  # composed on the snapshot of the checkpoint's run

    ckpt_path: str = "???"
    run: Any = None
    model: Any = "???"
    data: Any = "???"
    augment: Any = None
    classifier: Any = "???"
    trainer: Any = "???"
    callbacks: Any = None
    logger: Any = None
    paths: Any = "???"
    ops: Any = "???"
    sweep: Any = None


@dataclass
class PredictConfig:
    """Keys of `configs/predict.yaml`."""

    uses_snapshot: ClassVar[bool] = True
    ckpt_path: str = "???"
    images: str = "???"
    run: Any = None
    top_k: int = 5
    batch_size: int = 64
    num_workers: int | None = None
    device: str | None = None
    format: str = "csv"
    num_pictures: int = 48
    ops: Any = "???"
    paths: Any = "???"


@dataclass
class ExportConfig:
    """Keys of `configs/export.yaml`."""

    uses_snapshot: ClassVar[bool] = True
    ckpt_path: str = "???"
    images: str | None = None
    output: str | None = None
    overwrite: bool = False
    run: Any = None
    data: Any = None
    augment: Any = None
    export: Any = "???"
    paths: Any = "???"


SCHEMAS: dict[str, Any] = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
}


def register() -> None:
    """Make the schemas known to Hydra."""
    store = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=node)
