"""Baselines: any image classifier of timm, sized by the data like our own networks.

Source: timm (Wightman 2019, github.com/huggingface/pytorch-image-models). For small images we differ:
ViTs get a smaller patch, and ResNets the stem without strides of He et al. 2015 (arXiv:1512.03385, 4.2).
"""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models.resnet import ResNet
from torch import nn

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.layers.checks import check_counts, check_rates
from mambavision_lab.models import timm_registry  # noqa: F401  (timm knows our networks, too)
from mambavision_lab.models.hub import quiet_hub
from mambavision_lab.models.plain import default_patch_size
from mambavision_lab.models.try_image import try_image
from mambavision_lab.models.weights_file import (
    among,
    find_weights,
    only,
    places_at,
    places_of,
    read_tensors,
    verify_weights,
)

log = logging.getLogger(__name__)

SMALL_IMAGE = 64  # pixels per side below which a ResNet's stem keeps the resolution


def timm_classifier(
    *,
    name: str,
    num_classes: int = 1000,
    in_chans: int = 3,
    image_size: int = 224,
    patch_size: int | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    model_args: Mapping[str, Any] | None = None,
    pretrained: bool | str | None = None,
    pretrained_key: str | None = None,
) -> nn.Module:
    """Make a classifier by its name in timm; it maps images (N, C, H, W) to logits (N, num_classes).

    Args:
        name: Such as "resnet18"; a tag chooses among pretrained weights ("resnet50.a1_in1k").
        num_classes: Outputs of the head.
        in_chans: Channels of the images.
        image_size: Pixels per side.
        patch_size: Pixels per token and side; None is that of the name ("patch16") where it leaves at
            least seven tokens a side, and else follows the image as in the plain family.
        drop_rate: Dropout before the head.
        drop_path_rate: Stochastic depth of the last block.
        model_args: Further arguments of its constructor, such as {"dims": (24, 48, 96, 192)}.
        pretrained: True for the weights that timm knows, downloaded at the first use; or a file, or a
            folder that holds one, among them checkpoints of our runs. A head for other classes starts
            afresh, and a position embedding is interpolated.
        pretrained_key: Where in that file they lie, such as "model_ema"; None where one place alone fits.

    Raises:
        ConfigError: There is no such model, it cannot take the images, it does not give logits, or its
            weights cannot be had.
        ValueError: A size or a rate is impossible; the message names it.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(
            name.partition(".")[0], timm.list_models(), n=3, cutoff=0.5
        )
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "see timm.list_models()"
        raise ConfigError(f"name={name}: timm has no such model; {hint}")
    check_counts(num_classes=num_classes, in_chans=in_chans, image_size=image_size)
    if patch_size is not None:
        check_counts(patch_size=patch_size)
    check_rates(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "in_chans": in_chans,
        "patch_size": _fitting_patch(name, image_size) if patch_size is None else patch_size,
        "drop_rate": drop_rate or None,  # not every model has one
        "drop_path_rate": drop_path_rate or None,
        **_plain(model_args or {}),
    }
    if isinstance(pretrained, str):
        options["pretrained_cfg_overlay"] = _overlay(name, pretrained, pretrained_key)
    net = _create(name, image_size, {**options, "pretrained": bool(pretrained)})
    count = getattr(net, "pretrained_cfg", {}).get("num_classes")
    if pretrained and count != num_classes:
        log.warning(
            "pretrained=%s: it has %s classes, this network %d; the head starts afresh",
            *(pretrained, count, num_classes),
        )
    if isinstance(net, ResNet) and image_size < SMALL_IMAGE:
        _keep_resolution(net)
    _try(net, name, num_classes, in_chans, image_size)
    return net


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's arguments as timm writes them: lists are tuples."""
    return {
        key: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
        for key, v in arguments.items()
    }


def _fitting_patch(name: str, image_size: int) -> int | None:
    """Choose a patch for images too small or uneven for that in the name of a ViT; else None."""
    patch = re.search(r"patch(\d+)", name)
    own = int(patch[1]) if patch else 0
    if own < 7 or (image_size % own == 0 and image_size // own >= 7):  # Swin's 4 is for any image
        return None
    return default_patch_size(image_size)


@quiet_hub()
def _create(name: str, image_size: int, options: dict[str, Any]) -> nn.Module:
    """Make it, with img_size where its constructor takes one."""
    try:
        try:
            return timm.create_model(name, img_size=image_size, **options)
        except TypeError as error:
            if "'img_size'" not in str(error):
                raise
            return timm.create_model(name, **options)
    except Exception as error:  # refused options, no network, weights that do not fit ...
        if not options["pretrained"] or isinstance(error, TypeError):
            what, advice = "cannot be made", "leave out that option, or choose another model"
        elif "pretrained_cfg_overlay" in options:
            what, advice = "the weights do not fit", "choose the model that they were made for"
        else:
            what = "no pretrained weights"
            advice = "check the network, or give pretrained=FILE or pretrained=null"
        raise ConfigError(f"name={name}: {what} ({reason(error, 200)}); {advice}") from error


def _overlay(name: str, source: str, key: str | None) -> dict[str, Any]:
    """Describe a file, by its entries and classes, that timm is to load instead of its own weights."""
    path = find_weights(source)
    verify_weights(path, source)
    tensors = read_tensors(path, source)
    known: Any = timm.models.get_pretrained_cfg(name)
    head, first = _first(known.classifier), _first(known.first_conv)
    wanted = [f"{layer}.weight" for layer in (head, first) if layer]
    places = [
        prefix
        for prefix in places_of(wanted[0], tensors)
        if all(prefix + name in tensors for name in wanted)
    ]
    if not places:
        raise ConfigError(
            f"pretrained={source}: these are no weights of {name}: {' and '.join(wanted)} are not "
            f"{among(list(tensors))}; "
            "choose the model that they were made for"
        )
    prefix = only(places_at(places, source, key), source)
    state = {k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)}
    overlay: dict[str, Any] = {"state_dict": state, "custom_load": False}
    if head:
        overlay["num_classes"] = len(state[f"{head}.weight"])
    if first:
        overlay["input_size"] = (state[f"{first}.weight"].shape[1], *known.input_size[1:])
    return overlay


def _first(names: Any) -> str:
    """Return the first of one name or several, as timm describes layers."""
    return names[0] if isinstance(names, tuple | list) else names


def _keep_resolution(net: Any) -> None:
    first = net.conv1[0] if isinstance(net.conv1, nn.Sequential) else net.conv1
    first.stride = (1, 1)
    net.maxpool = nn.Identity()


def _try(net: nn.Module, name: str, num_classes: int, in_chans: int, image_size: int) -> None:
    """Refuse images that the network cannot take, and a network without logits, by giving it one."""
    anything: Any = net
    is_native = anything.pretrained_cfg.get("input_size") == (in_chans, image_size, image_size)
    if is_native and getattr(anything.get_classifier(), "out_features", 0) == num_classes:
        return
    try:
        y = try_image(net, in_chans, image_size)
    except ValueError as error:
        raise ConfigError(
            f"name={name}: cannot take images of {image_size} x {image_size} pixels "
            f"({error}); enlarge them with data.image_size, or choose another model"
        ) from error
    shape = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
    if shape != (1, num_classes):
        raise ConfigError(
            f"name={name}: is no classifier: for one image it gives {shape} instead of logits "
            f"{(1, num_classes)}; choose another model"
        )
