"""Evaluate a checkpoint, or an exported file, on a test split."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from mambavision_lab.config.overrides import given_overrides, key_of
from mambavision_lab.counting import counted
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.listing import Listing
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.launch.distributed.devices import check_devices, num_local_processes
from mambavision_lab.metrics import main_metric
from mambavision_lab.models.try_image import try_size
from mambavision_lab.runs.folder import open_run_folder, short_path, write_json
from mambavision_lab.runs.snapshot import find_snapshot_around
from mambavision_lab.tasks.build import (
    build_data,
    build_trainer,
    build_tta,
    device_name,
    refuse_other_targets,
)
from mambavision_lab.tasks.console import print_panel, print_results
from mambavision_lab.tasks.evaluated import CheckpointNetwork, Evaluated, ExportedNetwork
from mambavision_lab.tasks.memory import keep_freed_memory

log = logging.getLogger(__name__)

_LABELS = {
    False: "one class for each",
    True: "several labels for each (a CSV with the column labels)",
}
# Whether there are masks, and the number of axes -> the data of that kind in a folder.
_FOLDERS = {
    (False, 2): "image_folder",
    (False, 3): "volume_folder",
    (True, 2): "mask_folder",
    (True, 3): "mask_folder_3d",
}
# What data modules store beside their settings.
_NO_SETTINGS = ("num_classes", "class_names", "keeps_aspect", "is_multilabel", "has_masks")


def evaluate(cfg: DictConfig) -> float:
    """Test the network of a checkpoint or an exported file and write the metrics to `metrics.json`.

    Args:
        cfg: The composed config, as in `configs/eval.yaml`, with the network of the training run.

    Returns:
        Top-1 accuracy; of several labels mean average precision.

    Raises:
        ConfigError: The checkpoint does not fit the network, or the data have unknown classes.
    """
    if num_local_processes(cfg) > 1:
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices}: eval.py runs in one process; "
            "choose trainer.devices=1"
        )
    check_devices(cfg)
    keep_freed_memory()
    network: Evaluated = ExportedNetwork(cfg) if cfg.model_file else CheckpointNetwork(cfg)
    trained, class_names = network.trained, network.trained["class_names"]
    data = build_data(cfg)
    data.use_preprocessing(trained)
    source = _choose_images(cfg, data, network.path)
    _compare_preprocessing(data, trained)
    data.use_classes(class_names)
    classifier = network.make_classifier(cfg, data)
    size = " x ".join(map(str, data.sides))
    if data.image_size != trained.get("image_size", data.image_size):
        size += f", trained with {trained['image_size']}"
        _fit_to_size(classifier.net, data)
    classifier.tta = build_tta(cfg, classifier.net, data)
    trainer = build_trainer(cfg)
    folder = open_run_folder(cfg, is_latest=False)
    num_images = len(data.splits.test)  # type: ignore[arg-type]
    settings = {
        "file" if cfg.model_file else "checkpoint": network.words,
        "data": f"{counted(num_images, 'images')}, {source}",
        "size": size,
        "classes": f"{len(data.class_names)} of the network's {len(class_names)}",
        "device": device_name(trainer),
        "folder": short_path(folder),
    }
    print_panel(f"evaluate {cfg.run.name}", settings)
    results = trainer.test(classifier, datamodule=data, verbose=False)
    if not results:
        raise ConfigError(
            "no test images were evaluated; leave trainer.limit_test_batches as it is"
        )
    metrics = {name: float(value) for name, value in results[0].items()}
    write_json(network.place | metrics, folder / "metrics.json")
    views = f", with {classifier.tta}" if classifier.tta else ""
    print_results(f"{cfg.run.name}: {short_path(network.path)}{views}", metrics, folder)
    return metrics[main_metric(data.is_multilabel, data.has_masks).replace("val/", "test/")]


def _choose_images(cfg: DictConfig, data: ImageDataModule, path: Path) -> str:
    """Choose all images of another folder than the run's, or the test split; returns a description."""
    listing: Listing | None = getattr(data, "listing", None)
    if listing is None:
        if cfg.use_all_images:
            raise ConfigError(
                f"use_all_images=true: {type(data).__name__} has a test split of its own; "
                f"choose data={_FOLDERS[data.has_masks, len(data.sides)]} data.root=FOLDER"
            )
        return f"the test split of {type(data).__name__.removesuffix('DataModule')}"
    snapshot = find_snapshot_around(path)
    # An exported file may lie anywhere; which images it was trained on is then unknown.
    trained: Any = OmegaConf.load(snapshot / "data" / "as_trained.yaml") if snapshot else {}
    is_own = (
        trained.get("_target_") == cfg.data._target_
        and _is_same(trained.get("root"), cfg.data.root)
        and trained.get("labels_file") == cfg.data.get("labels_file")
    )
    if not is_own if cfg.use_all_images is None else cfg.use_all_images:
        listing.use_all_for_test()
        if trained.get("root") and not Path(trained["root"]).exists():
            log.warning(
                "data.root=%s: all images are evaluated; if this is the folder that was trained on, "
                "%s, give use_all_images=false",
                cfg.data.root,
                trained["root"],
            )
    return listing.describe_test()


def _compare_preprocessing(data: ImageDataModule, trained: dict[str, Any]) -> None:
    """Warn where images are prepared otherwise than in training, as by data=image_folder on top.

    What the command itself gives is meant.
    """
    if data.is_multilabel != trained.get("is_multilabel", False):
        raise ConfigError(
            f"data.labels_file: the network was trained on {_LABELS[not data.is_multilabel]}, "
            f"but these images have {_LABELS[data.is_multilabel]}"
        )
    stored = data.metadata()
    refuse_other_targets(
        "data: the network was trained on",
        bool(trained.get("has_masks")),
        stored,
        "give data of the same kind",
    )
    given = {key_of(override) for override in given_overrides()}
    for name, value in stored.items():
        is_setting = name not in _NO_SETTINGS and f"data.{name}" not in given
        if is_setting and value != trained.get(name, value):
            log.warning("data.%s=%s, but the run was trained with %s", name, value, trained[name])


def _fit_to_size(net: nn.Module, data: ImageDataModule) -> None:
    """Let a trained network take images of another size, a ViT by interpolating its position embedding.

    Raises:
        ConfigError: It cannot.
    """
    setting = f"data.image_size={data.image_size}"
    if callable(resize := getattr(net, "set_input_size", None)):
        try:
            resize(data.sides)
        except (ValueError, RuntimeError, AssertionError) as error:  # timm's are of all kinds
            raise ConfigError(f"{setting}: {reason(error, 160)}; choose another size") from error
    try_size(net, data.in_chans, data.sides, setting)


def _is_same(root: str, other: str) -> bool:
    return Path(root).resolve() == Path(other).resolve()
