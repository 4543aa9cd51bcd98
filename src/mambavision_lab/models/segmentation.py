"""Segmentation of images, volumes and clips: a backbone's maps, decoded to a class for each pixel."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.layers.axes import check_dims
from mambavision_lab.layers.checks import check_counts, check_rates
from mambavision_lab.models.backbone import Backbone, FeatureExtractor
from mambavision_lab.models.create import create_mambavision, read_variant
from mambavision_lab.models.hub import quiet_hub
from mambavision_lab.models.unet_decoder import UNetDecoder

_TIMM = "timm/"
_FAMILIES = ("mambavision_lab.models.plain.", "mambavision_lab.models.hierarchical.")


class SegmentationNet(nn.Module):
    """An encoder whose maps, one of each resolution, a U-Net's decoder joins with the image itself.

    Args:
        encoder: Choice of `model=` of either family, such as "mambavision_micro"; or "timm/NAME".
        encoder_options: Further arguments of its constructor.
        num_classes: Classes, the background among them.
        in_chans: Channels of the images.
        image_size: Pixels per side, for encoders that are made for a size.
        num_slices: Slices or frames, likewise; None for images.
        dims: Spatial axes: 2 for images (N, C, H, W), 3 for volumes and clips (N, C, D, H, W).
        decoder_dim: Channels of the decoder at the image's resolution; each coarser map has twice as many,
            at most eight times.
        drop_rate: Dropout of whole channels before the last convolution.
        scan_backend: "auto" or a backend of `selective_scan`, for our own encoders.
        pretrained: Weights for the encoder to start from: a file, a folder or a hub id, of timm's true;
            None for fresh ones.
        pretrained_key: Where in that file they lie; None where one place alone fits.

    Raises:
        ConfigError: There is no such encoder, it gives no maps, or its weights cannot be had.
        ValueError: A size is impossible.
    """

    def __init__(
        self,
        *,
        encoder: str,
        num_classes: int,
        in_chans: int = 3,
        image_size: int = 224,
        num_slices: int | None = None,
        dims: int = 2,
        encoder_options: Mapping[str, Any] | None = None,
        decoder_dim: int = 16,
        drop_rate: float = 0.0,
        scan_backend: str = "auto",
        pretrained: bool | str | None = None,
        pretrained_key: str | None = None,
    ) -> None:
        super().__init__()
        check_dims(dims)
        check_counts(minimum=2, num_classes=num_classes)
        check_counts(in_chans=in_chans, image_size=image_size, decoder_dim=decoder_dim)
        check_rates(drop_rate=drop_rate)
        self.dims, self.num_classes, self.in_chans = dims, num_classes, in_chans
        options = dict(encoder_options or {})
        if encoder.startswith(_TIMM):
            if dims == 3:
                raise ConfigError(
                    f"encoder={encoder} dims={dims}: timm's take images alone; choose an encoder of ours"
                )
            name = encoder.removeprefix(_TIMM)
            self.encoder = _timm_maps(name, in_chans, image_size, bool(pretrained), options)
        else:
            options |= {"in_chans": in_chans, "dims": dims, "scan_backend": scan_backend}
            options |= {"pretrained": pretrained, "pretrained_key": pretrained_key}
            sizes = {"image_size": image_size, "num_slices": num_slices}
            self.encoder = _our_maps(encoder, sizes, options)
        widths = [info["num_chs"] for info in self.encoder.feature_info]  # type: ignore[union-attr]
        self.decoder = UNetDecoder(in_chans, widths, num_classes, decoder_dim, dims, drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, H, W) for images (N, C, H, W); of volumes likewise."""
        return self.decoder(x, self.encoder(x))

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters that weight decay should leave alone, beyond biases and norms."""
        net = getattr(self.encoder, "net", None)
        own = net.no_weight_decay() if isinstance(net, Backbone) else set()
        return {f"encoder.net.{name}" for name in own}


def _our_maps(variant: str, sizes: Mapping[str, Any], options: dict[str, Any]) -> FeatureExtractor:
    """Make an encoder of ours that gives one map of each resolution, the last of its blocks.

    Args:
        variant: Choice of `model=`.
        sizes: Of the images, from which the constructor takes what it knows: the hierarchical family none.
        options: Further arguments.
    """
    try:
        known = read_variant(variant)
    except ValueError as error:
        raise ConfigError(f"encoder={variant}: no such model; timm's are timm/NAME") from error
    if not str(known["_target_"]).startswith(_FAMILIES):
        raise ConfigError(
            f"encoder={variant}: gives no maps; wanted one of ours, such as mambavision_micro, or timm/NAME"
        )
    own = {name: size for name, size in sizes.items() if name in known}
    net = create_mambavision(variant, 0, **own, **options)
    reductions = [info["reduction"] for info in net.feature_info]
    last = [i for i, r in enumerate(reductions) if r not in reductions[i + 1 :]]
    return FeatureExtractor(net, last)


@quiet_hub()
def _timm_maps(
    name: str, in_chans: int, image_size: int, pretrained: bool, options: dict[str, Any]
) -> nn.Module:
    """Make an encoder of timm."""
    sized: dict[str, Any] = {"img_size": image_size}
    try:
        for more in (sized, {}):
            try:
                made = timm.create_model(
                    name,
                    features_only=True,
                    in_chans=in_chans,
                    pretrained=pretrained,
                    **more,
                    **options,
                )
            except TypeError as error:
                if "'img_size'" not in str(error) or not more:
                    raise
            else:
                break
    except Exception as error:  # unknown names, options, networks without maps, no connection
        raise ConfigError(
            f"encoder=timm/{name}: cannot be made ({reason(error, 200)}); choose another one"
        ) from error
    return made
