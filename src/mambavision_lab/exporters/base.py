"""What the formats share: which network is written for which images, and the one way to trace it."""

import copy
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from mambavision_lab.errors import ConfigError
from mambavision_lab.layers import mixer
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision, resize_pos_embed

_shape_config: Any = _config
Runtime = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExportSpec:
    """What is exported.

    Attributes:
        net: In float32, on the CPU, in evaluation mode.
        in_chans: Channels of the images.
        image_size: Height and width that the file is made for.
        any_size: Whether the file takes other heights and widths too; the batch may always vary.
        description: What the file says of itself: architecture, preprocessing, class names.
    """

    net: nn.Module
    in_chans: int
    image_size: tuple[int, int]
    any_size: bool
    description: dict[str, Any]


class ExportFormat:
    """Base of the formats.

    Args:
        tolerance: How far logits may lie from eager mode, absolute, and relative where they exceed 1.
        image_size: Pixels per side, or height and width, that the file is made for; None is that of
            the training.
        dynamic_size: Whether height and width may vary; None is where the network allows it.

    Raises:
        ConfigError: A package that the format needs is not installed.
    """

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]  # all that it writes, the one to load first
    packages: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        tolerance: float,
        image_size: int | Sequence[int] | None = None,
        dynamic_size: bool | None = None,
    ) -> None:
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"export={self.name} needs {package}; "
                    f"install it with: pip install 'mambavision-lab[{self.name}]'"
                )
        if tolerance < 0:
            raise ConfigError(f"export.tolerance={tolerance} must be at least 0")
        self.tolerance = tolerance
        self.image_size = image_size
        self.dynamic_size = dynamic_size

    def write(self, target: ExportSpec, folder: Path) -> None:
        """Write the files into a folder."""
        raise NotImplementedError

    def load(self, folder: Path) -> Runtime:
        """Load them in their own runtime, on as many threads as torch has; images to logits."""
        raise NotImplementedError

    def target(
        self, net: nn.Module, in_chans: int, trained_size: int, description: dict[str, Any]
    ) -> ExportSpec:
        """Fit a copy of the network to the images that the file is made for.

        Raises:
            ConfigError: The network does not take such images.
        """
        given = trained_size if self.image_size is None else self.image_size
        sides = [given, given] if isinstance(given, int) else list(given)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ConfigError(
                f"export.image_size={given}: wanted a number of pixels, or [HEIGHT,WIDTH]"
            )
        net = copy.deepcopy(net).float().cpu().eval()
        try:
            with torch.inference_mode():
                net(torch.zeros(1, in_chans, *sides))
        except (ValueError, RuntimeError, AssertionError) as error:  # timm's are of all kinds
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"export.image_size={given}: {reason}") from error
        any_size = takes_any_size(net) if self.dynamic_size is None else self.dynamic_size
        if any_size and not takes_any_size(net):
            raise ConfigError(
                f"export.dynamic_size=true: this {type(net).__name__} is fitted to one size "
                f"({sides[0]} x {sides[1]}), only the batch can vary; leave export.dynamic_size out, "
                "and choose the size with export.image_size"
            )
        if isinstance(net, PlainMambaVision):
            grid = (sides[0] // net.patch_size, sides[1] // net.patch_size)
            with torch.no_grad():
                net.pos_embed = nn.Parameter(resize_pos_embed(net.pos_embed, grid))
        takes: dict[str, Any] = {"layout": "(batch, channels, height, width), float32, normalised"}
        takes |= {"height": sides[0], "width": sides[1], "any_height_and_width": any_size}
        description = {**description, "input": takes}
        return ExportSpec(net, in_chans, (sides[0], sides[1]), any_size, description)


def takes_any_size(net: nn.Module) -> bool:
    """Whether one graph of the network can take images of any height and width.

    The plain family interpolates its position embedding for each size, and windows that shrink with
    the map are another graph for each.
    """
    if not isinstance(net, MambaVision):
        return False
    return not any(getattr(level, "clamp_windows") for level in net.levels)  # noqa: B009 (for mypy)


def example(target: ExportSpec) -> Tensor:
    """Images to trace with: of the target's size, or so large that several windows lie side by side."""
    height, width = (320, 256) if target.any_size else target.image_size
    return torch.zeros(2, target.in_chans, height, width)


def export_program(
    target: ExportSpec, scan: Callable[..., Tensor] | None = None
) -> ExportedProgram:
    """Trace the network with `torch.export`; its scan is our operator, or `scan` in its place."""
    axes = (0, 2, 3) if target.any_size else (0,)
    # Oblivious: 1 is a size like any other, be it of a batch or of a row of windows.
    with tracing(scan), _shape_config.patch(backed_size_oblivious=True):
        return torch.export.export(
            target.net,
            (example(target),),
            dynamic_shapes=(dict.fromkeys(axes, Dim.DYNAMIC),),
        )


@contextmanager
def tracing(scan: Callable[..., Tensor] | None = None) -> Iterator[None]:
    """Without gradients, without the tracers' hints, and with another function as the mixers' scan."""
    own: Any = mixer.selective_scan
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixer.selective_scan = scan or own  # type: ignore[assignment]
        try:
            yield
        finally:
            mixer.selective_scan = own
