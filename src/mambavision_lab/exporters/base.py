"""Prepare a network for export, and trace it: the base of the formats."""

import copy
import importlib.util
import math
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

from mambavision_lab.errors import ConfigError, missing_extra
from mambavision_lab.exporters.plain_scan import unrolled_scan
from mambavision_lab.exporters.runtimes.base import Runtime
from mambavision_lab.exporters.runtimes.load import load_exported
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision
from mambavision_lab.models.try_image import try_image

_shape_config: Any = _config
Scan = Callable[..., Tensor]  # with the arguments of `selective_scan`


@dataclass(frozen=True)
class ExportSpec:
    """A network, and the images that its file is to take.

    Attributes:
        net: The network, in float32, on the CPU, in evaluation mode.
        in_chans: Channels of the images.
        sides: Height and width that the file is made for, of volumes after the slices.
        any_size: Whether the file takes other heights and widths too; the batch may always vary.
        description: The file's metadata: architecture, preprocessing, class names.
    """

    net: nn.Module
    in_chans: int
    sides: tuple[int, ...]
    any_size: bool
    description: dict[str, Any]


class ExportFormat:
    """Base class of the formats.

    Args:
        tolerance: How far logits may lie from eager mode, absolute, and relative where they exceed 1.
        image_size: Pixels per side, or height and width (of volumes after the slices), that the file is made
            for; None is that of the training.
        dynamic_size: Whether height and width may vary; None for yes if the network allows it.

    Raises:
        ConfigError: A package that the format needs is not installed.
    """

    name: ClassVar[str]
    files: tuple[str, ...]  # names of those written, first the one to load
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""  # that brings them
    quantize: str | None = None  # "static" or "dynamic": 8 bits, whose logits differ
    runs_here: ClassVar[bool] = True  # whether its latency can be measured in Python

    def __init__(
        self,
        *,
        tolerance: float,
        image_size: int | Sequence[int] | None = None,
        dynamic_size: bool | None = None,
    ) -> None:
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise missing_extra(f"export={self.name}", package, self.extra)
        if not 0 <= tolerance < math.inf:  # NaN is neither
            raise ConfigError(f"export.tolerance={tolerance}: wanted a number from 0")
        self.tolerance = tolerance
        self.image_size = image_size
        self.dynamic_size = dynamic_size

    @property
    def tables(self) -> list[str]:
        """Names of the tables beside the files."""
        return [f"{self.files[0]}.json", f"{self.files[0]}.md"]

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write the files into a folder."""
        raise NotImplementedError

    def load(self, folder: Path) -> Runtime:
        """Load the files in their own runtime, on as many threads as torch uses."""
        return load_exported(folder / self.files[0])

    def make_spec(
        self,
        net: nn.Module,
        in_chans: int,
        trained: int | Sequence[int],
        description: dict[str, Any],
    ) -> ExportSpec:
        """Make the spec: a copy of the network, fitted to the images that the file is made for.

        Trained is what it was trained on: pixels per side, or height and width, of volumes after the slices.

        Raises:
            ConfigError: The network does not take such images.
        """
        trained = [trained, trained] if isinstance(trained, int) else list(trained)
        given: Any = trained if self.image_size is None else self.image_size
        axes = ["slices", "height", "width"][-len(trained) :]
        sides = [*trained[:-2], given, given] if isinstance(given, int) else list(given)
        if len(sides) != len(axes) or not all(isinstance(side, int) and side > 0 for side in sides):
            raise ConfigError(
                f"export.image_size={given}: wanted a number of pixels, or [{','.join(axes).upper()}]"
            )
        net = copy.deepcopy(net).float().cpu().eval()
        try:
            try_image(net, in_chans, sides)
        except ValueError as error:
            raise ConfigError(f"export.image_size={given}: {error}") from error
        any_size = takes_any_size(net) if self.dynamic_size is None else self.dynamic_size
        if any_size and not takes_any_size(net):
            raise ConfigError(
                f"export.dynamic_size=true: this {type(net).__name__} is fitted to one size "
                f"({' x '.join(map(str, sides))}), only the batch can vary; leave export.dynamic_size out, "
                "and choose the size with export.image_size"
            )
        if isinstance(net, PlainMambaVision):
            net.set_input_size(sides)
        layout = f"(batch, channels, {', '.join(axes)}), float32, normalised"
        images: dict[str, Any] = {"layout": layout, **dict(zip(axes, sides, strict=True))}
        description = {**description, "input": {**images, "any_height_and_width": any_size}}
        return ExportSpec(net, in_chans, tuple(sides), any_size, description)


class GraphFormat(ExportFormat):
    """Base class of the formats whose graph holds each scan as one operator, or in plain operations.

    Args:
        scan: "op" for one operator per scan, "unrolled" for plain operations.
        tolerance: As in `ExportFormat`.
        image_size: As in `ExportFormat`.
        dynamic_size: As in `ExportFormat`.

    Raises:
        ValueError: `scan` is neither.
    """

    def __init__(
        self,
        *,
        scan: str,
        tolerance: float,
        image_size: int | Sequence[int] | None = None,
        dynamic_size: bool | None = None,
    ) -> None:
        super().__init__(tolerance=tolerance, image_size=image_size, dynamic_size=dynamic_size)
        if scan not in ("op", "unrolled"):
            raise ValueError(f"scan={scan} is unknown; choose op or unrolled")
        self.scan = scan

    def export_program(self, spec: ExportSpec) -> ExportedProgram:
        """Trace the spec's network with `torch.export`."""
        net = spec.net if self.scan == "op" else with_scan(spec.net, unrolled_scan)
        axes = (0, 2, 3) if spec.any_size else (0,)
        # Oblivious: 1 is a size like any other, of a batch or of a row of windows.
        with tracing(), _shape_config.patch(backed_size_oblivious=True):
            return torch.export.export(
                net,
                (example(spec),),
                dynamic_shapes=(dict.fromkeys(axes, Dim.DYNAMIC),),
            )


def takes_any_size(net: nn.Module) -> bool:
    """Return whether one graph of the network can take images of any height and width; not of volumes.

    The plain family interpolates its position embedding for each size, and windows that shrink with
    the map are another graph for each.
    """
    if not isinstance(net, MambaVision) or net.dims == 3:
        return False
    return not any(getattr(level, "clamp_windows") for level in net.levels)  # noqa: B009 (for mypy)


def example(spec: ExportSpec) -> Tensor:
    """Make images to trace with: of the spec's size, or large enough for several windows each way."""
    sides = (320, 256) if spec.any_size else spec.sides
    return torch.zeros(2, spec.in_chans, *sides)


def copy_sharing_weights(net: nn.Module) -> nn.Module:
    """Return a copy of the network with the same parameters and buffers."""
    return copy.deepcopy(net, {id(x): x for x in (*net.parameters(), *net.buffers())})


def with_scan(net: nn.Module, scan: Scan) -> nn.Module:
    """Return a copy of the network whose mixers run another scan; it shares the weights."""
    copied = copy_sharing_weights(net)
    for module in copied.modules():
        if isinstance(module, MambaVisionMixer):
            module.scan = scan
    return copied


@contextmanager
def tracing() -> Iterator[None]:
    """Switch off gradients and the tracers' warnings."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
