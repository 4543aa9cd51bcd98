"""BatchNorm over the images of all processes, on the CPU: lets a test compare two processes with one.

torch synchronises BatchNorm on GPUs only. Here it takes two exchanges a layer, which is slow. Use it with
`+trainer.plugins=[{_target_:sync_batch_norm.CPUSyncBatchNorm}]` and this folder on PYTHONPATH.
"""

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class CPUSyncBatchNorm(LayerSync):
    """Let BatchNorm layers use the statistics of all processes' batches together."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the forward of each BatchNorm layer."""
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.forward = _SyncedForward(module)  # type: ignore[method-assign, assignment]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore the forward of each BatchNorm layer."""
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                del module.forward
        return model


class _SyncedForward:
    """Compute the forward of one layer."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if not layer.training:
            return type(layer).forward(layer, x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        broadcast = [1, -1, *[1] * (x.ndim - 2)]
        count = torch.tensor(x.numel() // x.shape[1], dtype=torch.float64)
        dist.all_reduce(count)  # processes may have batches of different sizes
        mean = all_reduce(x.sum(axes)) / count.to(x.dtype)
        centred = x - mean.view(broadcast)
        var = all_reduce(centred.square().sum(axes)) / count.to(x.dtype)
        if layer.running_mean is not None and layer.running_var is not None:
            assert layer.num_batches_tracked is not None
            with torch.no_grad():
                layer.num_batches_tracked += 1
                factor = layer.momentum or 1.0 / float(layer.num_batches_tracked)
                unbiased = var * (count / (count - 1)).to(var.dtype)
                layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), factor)
                layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), factor)
        y = centred * (var + layer.eps).rsqrt().view(broadcast)
        if layer.affine:
            y = y * layer.weight.view(broadcast) + layer.bias.view(broadcast)
        return y
