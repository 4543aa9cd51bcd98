"""Make data modules in Python by name; their settings are those of `configs/data/`.

    data = create_datamodule("cifar10", batch_size=64, augment="light")
    Trainer(max_epochs=1).fit(classifier, datamodule=data)

or, in a loop of your own,

    data.setup("fit")
    loader = data.train_dataloader()
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # another order in each epoch
        for batch in loader:
            batch = data.transfer_batch_to_device(batch, device, 0)
            images, labels = data.prepare_batch(batch, is_training=True)
"""

from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.resolvers import RESOLVERS
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import configs_folder, list_choices


def create_datamodule(
    name: str, *, augment: str | nn.Module | None = None, **options: Any
) -> ImageDataModule:
    """Make the data module of a config in `configs/data/`, such as "cifar10".

    Data are read or downloaded below $MAMBAVISION_DATA, or ./data, unless `root` is given.

    Args:
        name: Name of the config.
        augment: Augmentation of training batches: a module on float images (N, C, H, W) in [0, 1],
            the name of a config in `configs/augment/`, such as "light", or None.
        options: Settings that replace those of the config: batch_size, image_size, root ...

    Raises:
        ValueError: There is no such config, or a setting is missing or cannot be used.
        TypeError: The data module has no such setting.
    """
    # The nodes of a training config that configs of data and augmentation refer to.
    paths = _load("paths", "default")
    paths["root_dir"] = str(Path.cwd())
    root = OmegaConf.create({"paths": paths, "data": _load("data", name), "augment": None})
    if isinstance(augment, str):
        node = _load("augment", augment)
        root["augment"] = node if "_target_" in node else None
    for key, value in options.items():
        root["data"][key] = fspath(value) if isinstance(value, PathLike) else value
    for key, resolver in RESOLVERS.items():
        OmegaConf.register_new_resolver(key, resolver, replace=True)
    settings = _resolve(root, name)
    if isinstance(augment, nn.Module):
        settings["augment"] = augment
    return cast(ImageDataModule, _call(settings))


def _load(group: str, name: str) -> DictConfig:
    choices = list_choices(group)
    if name not in choices:
        raise ValueError(f"{group}={name!r} is unknown; choose one of {', '.join(choices)}")
    node = OmegaConf.load(configs_folder() / group / f"{name}.yaml")
    assert isinstance(node, DictConfig)
    bases = [_load(group, base) for base in node.pop("defaults", [])]
    return cast(DictConfig, OmegaConf.merge(*bases, node))


def _resolve(root: DictConfig, name: str) -> dict[str, Any]:
    """Resolve the node of the data to plain values.

    Raises:
        ConfigError: A value is missing, refers to an unknown one, or was refused by its resolver.
    """
    for key, value in cast(dict[str, Any], OmegaConf.to_container(root["data"])).items():
        if value == "???":
            raise ConfigError(f"data {name!r} needs {key}; give {key}=...")
    try:
        return cast(dict[str, Any], OmegaConf.to_container(root["data"], resolve=True))
    except OmegaConfBaseException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ConfigError):  # raised by a resolver
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise ConfigError(f"data {name!r}: {reason(error)}") from error


def _call(node: Any) -> Any:
    """Make the object of a node, after those within it; other values stay as they are."""
    if isinstance(node, list):
        return [_call(value) for value in node]
    if not isinstance(node, dict):
        return node
    arguments = {key: _call(value) for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        return arguments
    module, _, name = node["_target_"].rpartition(".")
    return getattr(import_module(module), name)(**arguments)
