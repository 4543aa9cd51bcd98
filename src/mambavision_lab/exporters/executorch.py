"""Export for ExecuTorch, PyTorch's runtime for phones and small devices, with XNNPACK's kernels."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.exporters.base import (
    ExportFormat,
    ExportSpec,
    copy_sharing_weights,
    tracing,
    with_scan,
)
from mambavision_lab.exporters.plain_scan import unrolled_scan
from mambavision_lab.exporters.runtimes.executorch import DESCRIPTION
from mambavision_lab.layers.depthwise import DepthwiseConv1d


class ExecutorchFormat(ExportFormat):
    """A .pte file for one image at a time, with the scan in plain operations.

    Linear layers and convolutions run in XNNPACK, the rest in ExecuTorch's portable kernels.

    Args:
        tolerance: As in `ExportFormat`.
        image_size: As in `ExportFormat`.

    Raises:
        ConfigError: ExecuTorch is not installed.
    """

    name = "executorch"
    files = ("model.pte",)
    packages = ("executorch",)
    extra = "executorch"

    def __init__(self, *, tolerance: float, image_size: int | Sequence[int] | None = None) -> None:
        super().__init__(tolerance=tolerance, image_size=image_size, dynamic_size=False)

    def write(self, spec: ExportSpec, folder: Path) -> None:
        """Write model.pte; the spec's description is a constant of the program."""
        from executorch.backends.xnnpack.partition.config import (
            AddmmConfig,
            ConvolutionConfig,
            LinearConfig,
            MMConfig,
        )
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        net = with_plain_convolutions(with_scan(spec.net, unrolled_scan))
        image = torch.zeros(1, spec.in_chans, *spec.sides)
        with tracing():
            # With all operators that XNNPACK knows, programs with a scan end in a segmentation fault.
            known = [LinearConfig, ConvolutionConfig, AddmmConfig, MMConfig]
            program = to_edge_transform_and_lower(
                torch.export.export(net, (image,)),
                partitioner=[XnnpackPartitioner(configs=known)],
                constant_methods={DESCRIPTION: json.dumps(spec.description)},
            ).to_executorch()
        (folder / self.files[0]).write_bytes(program.buffer)


def with_plain_convolutions(net: nn.Module) -> nn.Module:
    """Return a copy of the network whose depthwise convolutions change no layout; it shares the weights.

    ExecuTorch's kernels refuse tensors whose axes lie in memory in different orders.
    """
    copied = copy_sharing_weights(net)
    for module in copied.modules():
        for name, child in module.named_children():
            if isinstance(child, DepthwiseConv1d):
                setattr(module, name, _PlainConvolution(child))
    return copied


class _PlainConvolution(nn.Module):
    """`DepthwiseConv1d` by way of `F.conv1d`."""

    def __init__(self, layer: DepthwiseConv1d) -> None:
        super().__init__()
        self.weight, self.d_conv = layer.weight, layer.kernel_size[0]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x, (batch, length, dim), along its length; the shape stays."""
        before = (self.d_conv - 1) // 2
        padded = F.pad(x.transpose(1, 2), (before, self.d_conv - 1 - before))
        return F.conv1d(padded, self.weight, groups=len(self.weight)).transpose(1, 2)
