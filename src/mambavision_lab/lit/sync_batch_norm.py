"""BatchNorm over the images of all processes, for processes on the CPU.

torch has this for GPUs only. It is slow there, two exchanges a layer; it lets a run of several processes
on the CPU be compared with one of a single process.
"""

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class CPUSyncBatchNorm(LayerSync):
    """Plugin for the Trainer: BatchNorm layers share their statistics while the run trains."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Let the layers share their statistics."""
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.forward = _Shared(module)  # type: ignore[method-assign, assignment]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Give the layers their own forward back."""
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                del module.forward
        return model


class _Shared:
    """Forward of one layer."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if not layer.training:
            return type(layer).forward(layer, x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = [1, -1, *[1] * (x.ndim - 2)]
        count = torch.tensor(x.numel() // x.shape[1], dtype=torch.float64)
        dist.all_reduce(count)  # processes may have batches of different sizes
        mean = all_reduce(x.sum(axes)) / count.to(x.dtype)
        centred = x - mean.view(wide)
        var = all_reduce(centred.square().sum(axes)) / count.to(x.dtype)
        if layer.running_mean is not None and layer.running_var is not None:
            assert layer.num_batches_tracked is not None
            with torch.no_grad():
                layer.num_batches_tracked += 1
                share = layer.momentum or 1.0 / float(layer.num_batches_tracked)
                unbiased = var * (count / (count - 1)).to(var.dtype)
                layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), share)
                layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), share)
        y = centred * (var + layer.eps).rsqrt().view(wide)
        if layer.affine:
            y = y * layer.weight.view(wide) + layer.bias.view(wide)
        return y
