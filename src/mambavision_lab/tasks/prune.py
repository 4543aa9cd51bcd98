"""Let a training start from the pruned network of a run, before its processes start."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from torch import Tensor, nn

from mambavision_lab.compress.pruning import Pruning
from mambavision_lab.config.overrides import given_overrides, key_of
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.normalize import per_channel
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import PRUNED_WEIGHTS
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.models.macs import count_macs
from mambavision_lab.models.saved import load_checkpoint, write_weights
from mambavision_lab.tasks.build import build, build_data, build_net
from mambavision_lab.tasks.console import console, human_count


def start_from_pruned(cfg: DictConfig) -> None:
    """Prune the network of `prune.source`, and let the config name its weights and widths.

    A run that resumes takes the widths of its checkpoint.

    Args:
        cfg: The composed config of a training, with `prune`; it is changed.

    Raises:
        ConfigError: The network cannot be pruned so far, or is another than the config's.
    """
    pruning: Pruning = build(cfg.prune, "prune")
    if cfg.ckpt_path is not None:
        stored = load_checkpoint(cfg.ckpt_path, use_mmap=True)["hyper_parameters"]["model"]
        _set(cfg, stored.get("widths"), None)
        return
    if pruning.is_done:
        if given := [o for o in given_overrides() if key_of(o).startswith("prune.")]:
            raise ConfigError(
                f"{given[0]}: this run's network is pruned already; add experiment=prune to prune it again"
            )
        return
    trained = MambaVisionInference(pruning.source, device="cpu")
    trained.require_images("prune")
    net = trained.torch_net("prune").float()  # of a run in bfloat16
    settings = dict(trained.description["architecture"])
    target = settings.pop("_target_")
    if target != cfg.model._target_:
        raise ConfigError(
            f"prune.source={pruning.source}: its network is a {target.rpartition('.')[2]}, and model is "
            f"another; give from_run={pruning.source}"
        )
    settings["pretrained"] = None
    before = settings.pop("widths", None) or {}
    data = build_data(cfg)
    _refuse_others(cfg, trained, data, before)
    size, in_chans = trained.image_size, trained.in_chans

    def make(widths: dict[str, int]) -> nn.Module:
        return get_object(target)(**settings, widths={**before, **widths})

    def losses() -> Iterator[Tensor]:
        return _losses(net, data, pruning.num_batches)

    small, widths = pruning.prune(net, make, size, in_chans, losses)
    widths = {**before, **widths}
    folder = Path(cfg.paths.output_dir) / PRUNED_WEIGHTS
    folder.mkdir(parents=True, exist_ok=True)
    architecture = {**trained.description["architecture"], "widths": widths}
    description = {**trained.description, "architecture": architecture}
    description.pop("metrics", None)  # of the network before
    write_weights(small, description, folder)
    _set(cfg, widths, str(folder))
    old, new = (count_macs(one, size, in_chans).layers for one in (net, small))
    parameters = [sum(p.numel() for p in one.parameters()) for one in (net, small)]
    console.print(
        f"pruned {pruning.source}: {human_count(new)} of {human_count(old)} MACs ({new / old:.0%}), "
        f"{human_count(parameters[1])} of {human_count(parameters[0])} parameters",
        soft_wrap=True,
    )


def _refuse_others(
    cfg: DictConfig, trained: MambaVisionInference, data: ImageDataModule, widths: dict[str, int]
) -> None:
    """Refuse a config whose network or images are others than those of the network to prune."""
    changed, net = cfg.copy(), trained.net
    with read_write(changed), open_dict(changed):
        given = {"widths": widths or None, "pretrained": None}
        changed.model.update({key: value for key, value in given.items() if key in changed.model})
    own = [per_channel(values, data.in_chans) for values in (data.mean, data.std)]
    if not _is_same(build_net(changed), net, trained):
        what = "network"
    elif own != [trained.preparation.mean, trained.preparation.std]:
        what = "data.mean or data.std"
    elif len(data.class_names) > len(trained.class_names or []):
        what = "number of classes"
    else:
        return
    raise ConfigError(
        f"prune.source={cfg.prune.source}: has another {what} than this config; give "
        f"from_run={cfg.prune.source}, and leave model and data as they are there"
    )


def _is_same(own: nn.Module, net: nn.Module, trained: MambaVisionInference) -> bool:
    """Return whether one network computes with the other's weights what that does."""
    images = torch.randn(8, trained.in_chans, trained.image_size, trained.image_size)
    try:
        own.load_state_dict(net.state_dict())
        with torch.inference_mode():
            return torch.allclose(own.eval()(images), net(images), rtol=1e-5, atol=1e-5)
    except (RuntimeError, ValueError):  # of other shapes, or for other images
        return False


def _set(cfg: DictConfig, widths: dict[str, int] | None, pretrained: str | None) -> None:
    with read_write(cfg), open_dict(cfg):
        cfg.model.widths = OmegaConf.create(widths) if widths else None
        cfg.model.pretrained = pretrained
        cfg.prune.is_done = True


def _losses(net: nn.Module, data: ImageDataModule, num_batches: int) -> Iterator[Tensor]:
    """Yield the losses of some training batches, without augmentation."""
    data.setup("fit")
    data.seed_training(0)
    for i, batch in enumerate(data.train_dataloader()):
        if i == num_batches:
            return
        images, labels = data.prepare_batch(batch)
        logits: Any = net(images)
        if data.is_multilabel:
            yield F.binary_cross_entropy_with_logits(logits, labels.float())
        else:
            yield F.cross_entropy(logits[:, : data.num_classes], labels.to(torch.int64))
