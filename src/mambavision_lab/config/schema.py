"""Type the root of each config: Hydra refuses a wrong type or an unknown key at the top."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf


@dataclass
class LauncherConfig:
    """Settings of the launcher that starts a run's processes.

    Attributes:
        max_restarts: How often a run that lost a process starts again, from its newest checkpoint.
        stop_timeout_s: Seconds for the processes to finish their step and save it, before they are killed.
        timeout_s: How long processes wait for one that hangs.
    """

    max_restarts: int = 0
    stop_timeout_s: int = 30
    timeout_s: float = 1800.0


@dataclass
class SweepConfig:
    """Settings of a sweep.

    Attributes:
        search: The strategy, a `_target_` with its settings.
        resume: Folder of an interrupted sweep to resume, or None.
        devices_per_job: Devices that each job has to itself, for jobs side by side; None is all.
    """

    search: Any = "???"
    resume: str | None = None
    devices_per_job: int | None = None


@dataclass
class TrainConfig:
    """Keys of `configs/train.yaml`; groups are checked against the signatures of their targets."""

    uses_snapshot: ClassVar[bool] = False

    name: str = "???"
    seed: int | None = None
    ckpt_path: str | None = None
    resume: str = "exact"
    tune: str | None = None
    optimized_metric: str = "val/acc1"
    prune: Any = None
    model: Any = "???"
    data: Any = "???"
    augment: Any = None
    multi_scale: Any = None
    tta: Any = None
    classifier: Any = "???"
    guard: Any = None
    loss: Any = "???"
    optimizer: Any = "???"
    scheduler: Any = None
    trainer: Any = "???"
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    callbacks: Any = None
    logger: Any = None
    paths: Any = "???"
    ops: Any = "???"
    sweep: SweepConfig = field(default_factory=SweepConfig)


@dataclass
class EvalConfig:
    """Keys of `configs/eval.yaml`."""

    uses_snapshot: ClassVar[bool] = True  # composed on the snapshot of the checkpoint's run

    ckpt_path: str | None = "???"
    model_file: str | None = None
    use_all_images: bool | None = None
    run: Any = field(default_factory=lambda: {"name": "exported"})  # of a file without its run
    model: Any = None
    data: Any = "???"
    augment: Any = None
    tta: Any = None
    classifier: Any = None
    trainer: Any = "???"
    callbacks: Any = None
    logger: Any = None
    paths: Any = "???"
    ops: Any = "???"
    sweep: SweepConfig = field(default_factory=SweepConfig)


@dataclass
class PredictConfig:
    """Keys of `configs/predict.yaml`."""

    uses_snapshot: ClassVar[bool] = True
    ckpt_path: str | None = "???"
    model_file: str | None = None
    images: str = "???"
    run: Any = field(default_factory=lambda: {"name": "exported"})
    top_k: int = 5
    threshold: float = 0.5
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


@dataclass
class ImagesConfig:
    """Node `data` of `configs/analyze.yaml`: images that a network is made for."""

    image_size: int = 224
    num_slices: int | None = None
    in_chans: int = 3
    num_classes: int = 1000


@dataclass
class AnalyzeConfig:
    """Keys of `configs/analyze.yaml`."""

    uses_snapshot: ClassVar[bool] = False  # a checkpoint holds all that is needed
    name: str = "???"
    ckpt_path: str | None = None
    model: Any = "???"
    image_sizes: list[int] | None = None
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8])
    device: str | None = None
    output: str | None = None
    overwrite: bool = False
    data: ImagesConfig = field(default_factory=ImagesConfig)
    ops: Any = "???"
    paths: Any = "???"


@dataclass
class PreviewConfig:
    """Keys of `configs/preview.yaml`."""

    uses_snapshot: ClassVar[bool] = False
    name: str = "???"
    seed: int = 42
    data: Any = "???"
    augment: Any = None
    run: Any = None
    num_images: int = 8
    num_epochs: int = 3
    num_scanned: int | None = 2000
    seconds: float = 1.5
    paths: Any = "???"


@dataclass
class ExplainConfig:
    """Keys of `configs/explain.yaml`."""

    uses_snapshot: ClassVar[bool] = True
    ckpt_path: str = "???"
    images: str | None = None
    method: list[str] = field(default_factory=lambda: ["scan", "attention", "gradcam"])
    target: str = "predicted"
    max_images: int = 8
    top_k: int = 3
    layers: bool = False
    network: bool = False
    measure: bool = False
    num_measured: int = 100
    device: str | None = None
    run: Any = None
    data: Any = None
    augment: Any = None
    ops: Any = "???"
    paths: Any = "???"


@dataclass
class DemoConfig:
    """Keys of `configs/demo.yaml`."""

    uses_snapshot: ClassVar[bool] = True
    ckpt_path: str = "???"
    method: str | None = None
    host: str = "127.0.0.1"
    port: int = 7860
    device: str | None = None
    run: Any = None
    ops: Any = "???"
    paths: Any = "???"


@dataclass
class ServeConfig:
    """Keys of `configs/serve.yaml`."""

    uses_snapshot: ClassVar[bool] = True
    ckpt_path: str | None = "???"
    model_file: str | None = None
    run: Any = field(default_factory=lambda: {"name": "exported"})
    host: str = "127.0.0.1"
    port: int = 8000
    device: str | None = None
    batch_size: int = 16
    batch_wait_ms: float = 5
    max_megabytes: float = 10
    max_megapixels: float = 50
    max_images: int = 64
    max_waiting: int = 256
    timeout_s: float = 30
    top_k: int = 5
    threshold: float = 0.5
    ops: Any = "???"
    paths: Any = "???"


SCHEMAS: dict[str, Any] = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "analyze": AnalyzeConfig,
    "preview": PreviewConfig,
    "explain": ExplainConfig,
    "demo": DemoConfig,
    "serve": ServeConfig,
}


def task_of(cfg: DictConfig) -> str | None:
    """Return the task that a composed config is for, whatever its job is called; None for another config."""
    return next((name for name, node in SCHEMAS.items() if OmegaConf.get_type(cfg) is node), None)


def register() -> None:
    """Make the schemas known to Hydra."""
    store = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=node)
