"""A trained network that a student imitates: one of our runs, or of timm's with its pretrained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timm.models import get_pretrained_cfg
from torch import nn

from mambavision_lab.data.normalize import per_channel
from mambavision_lab.errors import ConfigError
from mambavision_lab.models.saved import build_saved, read_saved
from mambavision_lab.models.timm_classifier import timm_classifier
from mambavision_lab.models.try_image import try_image

_TIMM = "timm/"


def load_teacher(
    *,
    source: str,
    num_classes: int,
    in_chans: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> nn.Module:
    """Load a teacher for the student's images; it maps them to logits of as many classes.

    Its `class_names`, if it has any, are those of the run that trained it.

    Args:
        source: A run's folder, a checkpoint or a folder of weights; or "timm/NAME".
        num_classes: Classes of the student.
        in_chans: Channels of its images.
        image_size: Pixels per side.
        mean: Mean per channel by which its images are normalised.
        std: Standard deviation per channel, likewise.

    Raises:
        ConfigError: There is no such network, it was trained on images normalised in another way, or it
            does not take the student's images or know its number of classes.
    """
    try:
        net, trained = (_from_timm if source.startswith(_TIMM) else _from_run)(source)
    except ConfigError as error:
        what = f"loss.teacher.source={source}: "
        told = str(error).removeprefix(what)
        raise ConfigError(
            f"{what}{told}; a new run needs no teacher with loss=cross_entropy"
        ) from error
    for name, values in (("mean", mean), ("std", std)):
        own, theirs = (per_channel(x, in_chans) for x in (values, trained[name]))
        if own != theirs:
            raise ConfigError(
                f"loss.teacher.source={source}: was trained with {name}={theirs}, the student's images "
                f"have {own}; give data.{name}={theirs}, or in a new run loss=cross_entropy"
            )
    net.float().eval()  # of a run in bfloat16; the student's precision decides
    try:
        logits = try_image(net, in_chans, image_size)
    except ValueError as error:
        raise ConfigError(
            f"loss.teacher.source={source}: does not take images of "
            f"{in_chans} x {image_size} x {image_size} ({error})"
        ) from error
    if logits.shape != (1, num_classes):
        raise ConfigError(
            f"loss.teacher.source={source}: knows {logits.shape[-1]} classes, the data have "
            f"{num_classes}; give a teacher of the same classes"
        )
    return net


def _from_timm(source: str) -> tuple[nn.Module, dict[str, Sequence[float]]]:
    name = source.removeprefix(_TIMM)
    known = get_pretrained_cfg(name, allow_unregistered=True)
    net = timm_classifier(
        name=name, pretrained=True, num_classes=known.num_classes if known else 1000
    )
    config: Any = net.pretrained_cfg
    return net, {"mean": config["mean"], "std": config["std"]}


def _from_run(source: str) -> tuple[nn.Module, dict[str, Sequence[float]]]:
    if not Path(source).exists():
        raise ConfigError(
            f"loss.teacher.source={source}: no such file or folder; give a run's folder, a checkpoint, "
            f"or {_TIMM}NAME"
        )
    description, weights = read_saved(Path(source))
    if description.get("is_multilabel"):
        raise ConfigError(
            f"loss.teacher.source={source}: was trained on several labels for each image; give a teacher of "
            "one class for each"
        )
    net: Any = build_saved(description, weights, source)
    net.class_names = description.get("class_names")
    return net, description["preprocessing"]
