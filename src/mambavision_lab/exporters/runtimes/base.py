"""An exported file that is ready to run."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mambavision_lab.errors import ConfigError, reason

DESCRIBED = (  # keys of the metadata
    "architecture",
    "preprocessing",
    "class_names",
    "is_multilabel",
    "has_masks",
    "include_background",
    "name",
    "metrics",
    "input",
)


class Runtime(nn.Module):
    """Map normalised images (N, C, H, W), float32, to logits (N, num_classes), on the CPU.

    Args:
        predict: Does so; images lie on the CPU, in one block of memory.
        description: The file's metadata, as `read_metadata` gives it.
    """

    def __init__(self, predict: Callable[[Tensor], Tensor], description: dict[str, Any]) -> None:
        super().__init__()
        self.predict = predict
        self.description = description

    def forward(self, images: Tensor) -> Tensor:
        """Return logits on the device of the images.

        Raises:
            ConfigError: The file was made for images of another size, or its runtime fails on them.
        """
        self.check_size(*images.shape[2:])
        size = " x ".join(map(str, images.shape))
        try:
            with torch.inference_mode():
                logits = self.predict(images.float().cpu().contiguous()).to(images.device)
        except Exception as error:  # each runtime has its own kinds
            raise ConfigError(
                f"the exported file does not run on images of {size} ({reason(error, 160)}); export it anew"
            ) from error
        if logits.shape[:1] != images.shape[:1]:
            found = " x ".join(map(str, logits.shape)) or "one number"
            raise ConfigError(
                f"the exported file gives {found} for images of {size}; export it anew"
            )
        return logits

    def check_size(self, *sides: int) -> None:
        """Refuse images that the file does not take.

        Raises:
            ConfigError: It was made for one size, and theirs is another.
        """
        made_for = self.fixed_size
        if made_for is not None and made_for != sides:
            given, taken = (" x ".join(map(str, x)) for x in (sides, made_for))
            raise ConfigError(
                f"images of {given} pixels: the exported file takes {taken} alone; "
                "export one for this size with export.image_size"
            )

    @property
    def fixed_size(self) -> tuple[int, ...] | None:
        """Height and width, of volumes after the slices; None where they may vary, or are not known."""
        made_for = self.description.get("input") or {}
        if "height" not in made_for or made_for.get("any_height_and_width"):
            return None
        return tuple(made_for[a] for a in ("slices", "height", "width") if a in made_for)


def run_module(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that runs a network of torch without gradients."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(images)

    return run


def read_metadata(stored: Mapping[str, str]) -> dict[str, Any]:
    """Read what the exporters have written, values as JSON; runtimes and tools add keys of their own."""
    return {key: json.loads(stored[key]) for key in DESCRIBED if key in stored}
