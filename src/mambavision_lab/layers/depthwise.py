"""Convolve depthwise along the token axis, without transposes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.layers.checks import check_counts


class DepthwiseConv1d(nn.Conv1d):
    """Depthwise 'same' convolution over (batch, length, dim); not causal, no bias.

    The weights are those of `nn.Conv1d(dim, dim, d_conv, groups=dim)`. A (batch, length, dim) tensor
    is already a channels-last image of height 1, and in that layout the convolution needs no copy and
    its backward pass is several times faster on a CPU than that of `nn.Conv1d`.
    An even kernel reaches one step further forward than back, as PyTorch's 'same' padding does.
    """

    def __init__(self, dim: int, d_conv: int) -> None:
        check_counts(dim=dim, d_conv=d_conv)
        super().__init__(dim, dim, d_conv, groups=dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x, (batch, length, dim), along its length; the shape stays."""
        (d_conv,) = self.kernel_size
        image = x.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        if d_conv % 2 == 0:
            image = F.pad(image, (d_conv // 2 - 1, d_conv // 2))
        padding = (0, d_conv // 2 if d_conv % 2 else 0)
        y = F.conv2d(image, self.weight.unsqueeze(2), padding=padding, groups=self.groups)
        return y.squeeze(2).transpose(1, 2)
