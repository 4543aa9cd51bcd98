"""What a saved network says of itself, and the refusals of what does not fit it."""

import difflib
from typing import Any

from torch import nn

from mambavision_lab.data.folders import IMAGES
from mambavision_lab.data.preparation import preparation_of
from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.runtimes.base import Runtime


class DescribedNetwork:
    """A network with the description that was saved with it.

    Args:
        description: Plain values: `preprocessing`, and `class_names`, `is_multilabel`, `has_masks`.
        net: The network, or an exported file's runtime.
        source: Where it was saved, for messages.
    """

    def __init__(self, description: dict[str, Any], net: nn.Module, source: str) -> None:
        settings = description["preprocessing"]
        self.description, self.net = description, net
        self.preparation = preparation_of(settings, source)
        self.image_size, self.in_chans = int(settings["image_size"]), int(settings["in_chans"])
        self.class_names: list[str] | None = description.get("class_names")
        self.is_multilabel = bool(description.get("is_multilabel"))
        self.has_masks = bool(description.get("has_masks"))

    def require_class_names(self) -> list[str]:
        """Return the class names.

        Raises:
            ConfigError: The checkpoint has none.
        """
        if not self.class_names:
            raise ConfigError(
                "the checkpoint has no class names; use features(), or train it again"
            )
        return self.class_names

    def require_class(self, name: str) -> str:
        """Return the name of a class that the network knows.

        Raises:
            ConfigError: It knows none of this name.
        """
        names = self.require_class_names()
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(names[:8])}"
            raise ConfigError(f"target={name}: the network knows no such class; {hint}")
        return name

    def require_images(self, what: str) -> None:
        """Refuse a network of volumes or clips for what takes images alone, named for the message.

        Raises:
            ConfigError: It is one.
        """
        if (noun := self.preparation.kind.noun) != IMAGES.noun:
            raise ConfigError(f"{what}: takes networks of images, and this one is of {noun}")
        self.require_labels(what)

    def require_file_channels(self, what: str) -> None:
        """Refuse a network whose channels no image file has, named for the message; volumes have any.

        Raises:
            ConfigError: It is one.
        """
        if self.preparation.kind.noun == IMAGES.noun and self.in_chans not in (1, 3):
            raise ConfigError(
                f"{what}: its network takes {self.in_chans} channels, which no image file has; use "
                "MambaVisionInference on arrays"
            )

    def require_labels(self, what: str) -> None:
        """Refuse a segmentation for what takes classes of images alone, named for the message.

        Raises:
            ConfigError: It is one.
        """
        if self.has_masks:
            raise ConfigError(
                f"{what}: takes networks that classify images, and this one gives masks; use predict.py or "
                "segment()"
            )

    def torch_net(self, what: str) -> nn.Module:
        """Return the network for what needs more of it than logits, named for the message.

        Raises:
            ConfigError: It is an exported file.
        """
        if isinstance(self.net, Runtime):
            raise ConfigError(
                f"{what}: an exported file gives logits alone; load the run or the checkpoint instead"
            )
        return self.net
