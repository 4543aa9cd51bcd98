"""From a composed config to objects, shared by the tasks."""

import logging
import warnings
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.image_classifier import ImageClassifier

# Module that a missing import names -> our extra that brings it.
EXTRAS = {"tensorboard": "tensorboard", "tensorboardX": "tensorboard", "sklearn": "digits"}


def build(node: Any, name: str, **arguments: Any) -> Any:
    """Instantiate a node; what its constructor refuses becomes a one-line ConfigError."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from error
        if isinstance(cause, ModuleNotFoundError):
            raise ConfigError(_missing_package(name, cause)) from error
        if isinstance(cause, ValueError | TypeError | MisconfigurationException):
            raise ConfigError(f"{name}: {cause}") from error
        raise
    except MisconfigurationException as error:
        raise ConfigError(f"{name}: {error}") from error


def _missing_package(name: str, error: ModuleNotFoundError) -> str:
    for module, extra in EXTRAS.items():
        if module in str(error):
            return f"{name} needs {module}; install it with: pip install 'mambavision-lab[{extra}]'"
    return f"{name}: {error}; install that package"


def build_data(cfg: DictConfig) -> ImageDataModule:
    """Make the data module."""
    return build(cfg.data, "data")


def build_net(cfg: DictConfig) -> nn.Module:
    """Make the network; with a checkpoint to follow, without its pretrained weights."""
    follows = cfg.ckpt_path is not None and "pretrained" in cfg.model
    return build(cfg.model, "model", **({"pretrained": None} if follows else {}))


def build_classifier(
    cfg: DictConfig, net: nn.Module, num_classes: int, **arguments: Any
) -> ImageClassifier:
    """Wrap a network with the settings of `classifier`."""
    # Not recursive: the metadata hold the model's config, which must stay one.
    return build(
        cfg.classifier,
        "classifier",
        net=net,
        num_classes=num_classes,
        _recursive_=False,
        **arguments,
    )


def build_trainer(cfg: DictConfig, *extra: Callback) -> Trainer:
    """Make the trainer with its loggers and callbacks, and extra ones.

    Raises:
        ConfigError: The trainer refuses its settings, such as more devices than there are.
    """
    _quieten()
    loggers: list[Logger] = _build_each(cfg.logger, "logger")
    callbacks: list[Callback] = _build_each(cfg.callbacks, "callbacks")
    callbacks += extra
    if not loggers:
        callbacks = [c for c in callbacks if not isinstance(c, LearningRateMonitor)]
    return build(cfg.trainer, "trainer", logger=loggers or False, callbacks=callbacks)


def _build_each(group: DictConfig | None, name: str) -> list[Any]:
    """The objects of a group such as callbacks; null stands for one that is switched off."""
    nodes = {str(key): node for key, node in (group or {}).items() if node is not None}
    return [build(node, f"{name}.{key}") for key, node in nodes.items()]


def metadata(cfg: DictConfig, data: ImageDataModule) -> dict[str, Any]:
    """What a checkpoint keeps so that it can be rebuilt alone: model, data facts, run name."""
    model = cast(dict[str, Any], OmegaConf.to_container(cfg.model, resolve=True))
    if "pretrained" in model:
        model["pretrained"] = None  # the checkpoint's own weights replace those
    return {"name": cfg.name, "model": model, "data": data.metadata()}


def device_name(trainer: Trainer) -> str:
    """Human name of what the trainer runs on."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


def _quieten() -> None:
    """Send Lightning's messages to the run's log alone, and silence hints that do not apply."""
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
        # A run that goes on from a checkpoint has a folder of its own.
        ".*The dirpath has changed from.*",
        # Evaluation uses a sampler that repeats nothing.
        ".*Using `DistributedSampler` with the dataloaders.*",
        # A kernel of width 1 has no stride that could matter.
        ".*Grad strides do not match bucket view strides.*",
        # Lightning's own use of a torch function that was renamed.
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)
