"""Make the objects of a composed config, for all tasks."""

import logging
import platform
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer

from mambavision_lab.config.durations import find_durations
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.multi_scale import MultiScale
from mambavision_lab.errors import ConfigError, RunError, explain, missing_extra, reason
from mambavision_lab.lit.callbacks.rank_watch import RankWatch
from mambavision_lab.lit.checkpoint_io import SafeCheckpointIO
from mambavision_lab.lit.image_classifier import ImageClassifier
from mambavision_lab.lit.losses import balance_classes, check_teachers
from mambavision_lab.lit.segmentation import SegmentationModule
from mambavision_lab.lit.tolerant_logger import tolerant
from mambavision_lab.lit.training_module import TrainingModule
from mambavision_lab.models.try_image import try_size
from mambavision_lab.models.tta import TestTimeAugmentation
from mambavision_lab.runs.settings import settings_of

log = logging.getLogger(__name__)

# Missing module -> our extra that brings it.
EXTRAS = {"tensorboard": "tensorboard", "tensorboardX": "tensorboard", "sklearn": "digits"}


def build(node: Any, name: str, **arguments: Any) -> Any:
    """Instantiate a node of a config.

    Args:
        node: Has a `_target_`.
        name: Key of the node, for messages.
        arguments: Further arguments of the target.

    Raises:
        ConfigError: The target refuses its arguments, or needs a package that is not installed.
    """
    if node is not None and "_target_" not in node:
        raise ConfigError(
            f"{name}: has no _target_; wanted the full path of its class, MODULE.NAME"
        )
    try:
        return instantiate(node, _convert_="all", **(find_durations(node) | arguments))
    except InstantiationException as error:
        raise _refusal(name, error) from error


def build_optimizer(cfg: DictConfig, net: nn.Module) -> Callable[..., Optimizer]:
    """Make what makes the optimizer; its values are tried on the network at once.

    Raises:
        ConfigError: The optimizer refuses its values, or this network.
    """
    make = build(cfg.optimizer, "optimizer")
    try:
        make(net.parameters())
    except Exception as error:
        raise _refusal("optimizer", error) from error
    return make


def build_loss(cfg: DictConfig, data: ImageDataModule) -> nn.Module:
    """Make the loss; balanced class weights are those of the training images."""
    loss = build(cfg.loss, "loss")
    balance_classes(loss, data.train_labels, data.num_classes)
    check_teachers(loss, data.class_names)
    return loss


def build_data(cfg: DictConfig) -> ImageDataModule:
    """Make the data module."""
    return build(cfg.data, "data")


def build_net(cfg: DictConfig) -> nn.Module:
    """Make the network, without pretrained weights where those of a checkpoint replace them."""
    is_replaced = cfg.ckpt_path is not None and "pretrained" in cfg.model
    return build(cfg.model, "model", **({"pretrained": None} if is_replaced else {}))


def build_classifier(
    cfg: DictConfig, net: nn.Module, data: Mapping[str, Any], **arguments: Any
) -> TrainingModule:
    """Wrap a network with the settings of `classifier`, for data as `ImageDataModule.metadata` gives them."""
    if data.get("is_multilabel", False):
        arguments["is_multilabel"] = True
    # Not recursive: the config of the model in the metadata is not to be instantiated.
    classifier: TrainingModule = build(
        cfg.classifier,
        "classifier",
        net=net,
        num_classes=len(data["class_names"]),
        _recursive_=False,
        **arguments,
    )
    refuse_other_targets(
        f"classifier: {type(classifier).__name__} trains",
        classifier.has_masks,
        data,
        "choose experiment=segmentation for masks alone",
    )
    return classifier


def refuse_other_targets(
    trains: str, has_masks: bool, data: Mapping[str, Any], advice: str
) -> None:
    """Refuse data with masks for what takes classes of images, named for the message, and vice versa.

    Raises:
        ConfigError: They are of the other kind.
    """
    kinds, found = ("classes of images", "masks"), bool(data.get("has_masks"))
    if found != has_masks:
        raise ConfigError(
            f"{trains} {kinds[has_masks]}, and the data have {kinds[found]}; {advice}"
        )


def wrap_described(net: nn.Module, description: Mapping[str, Any]) -> TrainingModule:
    """Wrap a saved or exported network to measure it as its training did, from its description."""
    num_classes = len(description["class_names"])
    if description.get("has_masks"):
        return SegmentationModule(
            net,
            num_classes=num_classes,
            include_background=bool(description.get("include_background")),
            channels_last=False,
        )
    return ImageClassifier(
        net,
        num_classes=num_classes,
        is_multilabel=bool(description.get("is_multilabel")),
        channels_last=False,
    )


def build_tta(
    cfg: DictConfig, net: nn.Module, data: ImageDataModule
) -> TestTimeAugmentation | None:
    """Make the test-time augmentation, for images that the network takes; None where there is none."""
    tta: TestTimeAugmentation | None = build(cfg.tta, "tta")
    if tta is not None:
        tta.check(net, data.in_chans, data.image_size)
    return tta


def build_multi_scale(cfg: DictConfig, net: nn.Module, data: ImageDataModule) -> MultiScale | None:
    """Make what chooses the size of each training batch, from sizes that the network takes."""
    multi_scale: MultiScale | None = build(cfg.multi_scale, "multi_scale")
    for size in multi_scale.sizes if multi_scale else ():
        try_size(net, data.in_chans, size, f"multi_scale.sizes={cfg.multi_scale.sizes}")
    return multi_scale


def build_trainer(cfg: DictConfig, *extra: Callback) -> Trainer:
    """Make the trainer with its loggers and callbacks, and extra callbacks.

    Raises:
        ConfigError: The trainer refuses its settings, such as more devices than there are.
    """
    _quieten()
    loggers: list[Logger] = [tolerant(logger) for logger in _build_each(cfg.logger, "logger")]
    callbacks: list[Callback] = _build_each(cfg.callbacks, "callbacks")
    callbacks += extra
    if cfg.get("guard") is not None:
        callbacks.append(build(cfg.guard, "guard"))
    strategy: dict[str, Any] = {}
    if cfg.get("launcher") is not None:
        watch = RankWatch(cfg.launcher.timeout_s)
        callbacks.append(watch)
        name = cfg.trainer.get("strategy")
        if isinstance(name, str) and (made := watch.make_strategy(name)) is not None:
            strategy["strategy"] = made
    if not loggers:
        callbacks = [c for c in callbacks if not isinstance(c, LearningRateMonitor)]
    trainer: Trainer = build(
        cfg.trainer, "trainer", logger=loggers or False, callbacks=callbacks, **strategy
    )
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # Lightning's own choice
        trainer.strategy.checkpoint_io = SafeCheckpointIO()
    _warn_of_emulation(trainer)
    return trainer


def metadata(cfg: DictConfig, data: ImageDataModule) -> dict[str, Any]:
    """Collect what a checkpoint stores beside weights: run name, model and data, settings to resume with."""
    model = cast(dict[str, Any], OmegaConf.to_container(cfg.model, resolve=True))
    if "pretrained" in model:
        model["pretrained"] = None  # replaced by the checkpoint's own weights
    stored = {"name": cfg.name, "model": model, "data": data.metadata()}
    if (counted := cfg.classifier.get("include_background")) is not None:  # of a segmentation
        stored["include_background"] = counted
    return stored | {"settings": settings_of(cfg)}


def device_name(trainer: Trainer) -> str:
    """Name what the trainer runs on, such as "CPU" or "2 x NVIDIA H100"."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


def _warn_of_emulation(trainer: Trainer) -> None:
    """Warn where torch computes bfloat16 without instructions for it: on x86 processors without AVX-512."""
    is_bf16, is_cpu = "bf16" in trainer.precision, trainer.strategy.root_device.type == "cpu"
    found = torch.backends.cpu.get_cpu_capability()
    is_old = platform.machine() in ("x86_64", "AMD64") and found in ("AVX2", "NO AVX", "DEFAULT")
    if is_bf16 and is_cpu and is_old and trainer.is_global_zero:
        log.warning(
            "trainer.precision=%s: this processor (%s) has no instructions for bfloat16, which takes about "
            "ten times as long as float32; add trainer.precision=32-true",
            trainer.precision,
            found,
        )


def _refusal(name: str, error: BaseException) -> ConfigError | RunError:
    """Make the error for what a constructor raised: its values are wrong, or the system failed it."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return _refusal(name, error.__cause__)
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(name, error)
    known = explain(error)
    if known is error or isinstance(known, RunError):
        return known
    is_clear = known is not None or isinstance(error, ValueError | TypeError | RuntimeError)
    kind = "" if is_clear else f"{type(error).__name__}: "
    return ConfigError(f"{name}: {kind}{reason(error, 600)}")


def _missing_package(name: str, error: ModuleNotFoundError) -> ConfigError:
    for module, extra in EXTRAS.items():
        if module in str(error):
            return missing_extra(name, module, extra)
    return ConfigError(f"{name}: {reason(error)}; install that package")


def _build_each(group: DictConfig | None, name: str) -> list[Any]:
    """Make the objects of a group such as callbacks; null switches one off."""
    nodes = {str(key): node for key, node in (group or {}).items() if node is not None}
    return [build(node, f"{name}.{key}") for key, node in nodes.items()]


def _quieten() -> None:
    """Send Lightning's messages to the run's log alone, and ignore hints that do not apply."""
    for library in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(library)
        logger.handlers.clear()
        logger.propagate = True
    for message in (
        # Data in memory are fetched faster without worker processes.
        ".*does not have many workers.*",
        # Small data sets have fewer batches than trainer.log_every_n_steps.
        ".*is smaller than the logging interval.*",
        # The run folder already has its config and log; nothing in it is deleted.
        ".*Experiment logs directory.*exists and is not empty.*",
        # A run that starts from a checkpoint of another run has its own folder.
        ".*The dirpath has changed from.*",
        # An epoch resumes at its next image, and its metrics come from the checkpoint.
        ".*checkpoint that ended before the epoch ended.*",
        ".*``compute`` method of metric.*was called before the ``update``.*",
        # The state of an earlier version's callback is taken over by one of ours.
        ".*callbacks used to create the checkpoint.*ModelCheckpoint.*",
        # Evaluation uses a sampler that repeats nothing.
        ".*Using `DistributedSampler` with the dataloaders.*",
        # The stride of a kernel of width 1 does not matter.
        ".*Grad strides do not match bucket view strides.*",
        # Lightning uses a torch function that was renamed.
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)
