"""The MambaVision mixer: a selective scan beside an ungated convolutional branch.

Source: Hatamizadeh and Kautz 2024, arXiv:2407.08083, section 3.2; written from the paper and from
the shapes of the published weights.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambavision_lab.layers.checks import check_counts, check_multiple
from mambavision_lab.layers.depthwise import DepthwiseConv1d
from mambavision_lab.ops.selective_scan import check_backend_name, selective_scan


class MambaVisionMixer(nn.Module):
    """Mix tokens with a selective scan on one half of the channels and a convolution on the other.

    Args:
        dim: Channels in and out.
        d_state: State size of the scan per channel.
        d_conv: Kernel of the two depthwise convolutions, in tokens.
        expand: Inner width as a multiple of dim; half of it is scanned.
        bidirectional: Scan from the last token to the first as well, with the same weights, and add
            the two; the skip D counts once.
        scan_backend: "auto" or a backend of `selective_scan`.

    Attributes:
        scan: The function that scans, with the arguments of `selective_scan`. Another one can be set on
            a mixer, as the exporters do.

    Raises:
        ValueError: A size is too small or no whole number, or the backend's name is unknown.

    Source: arXiv:2407.08083, equations 6 to 8. As in the published network the bias of `dt_proj`
    enters twice, once in the projection and once in front of the softplus.
    """

    # Of the class, so that no mixer pickles it.
    scan: Callable[..., Any] = staticmethod(selective_scan)

    def __init__(
        self,
        dim: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        bidirectional: bool = False,
        scan_backend: str = "auto",
    ) -> None:
        super().__init__()
        check_backend_name(scan_backend)
        check_counts(dim=dim, d_state=d_state, d_conv=d_conv)
        check_multiple(dim, minimum=2, expand=expand)
        self.dim = dim
        self.d_state = d_state
        self.d_conv = d_conv
        self.dt_rank = math.ceil(dim / 16)
        self.bidirectional = bidirectional
        self.scan_backend = scan_backend
        self.resize(int(expand * dim) // 2)

    def resize(self, width: int) -> None:
        """Make fresh layers for another inner width: that many channels scanned, and as many convolved."""
        check_counts(width=width)
        self.in_proj = nn.Linear(self.dim, 2 * width, bias=False)
        self.x_proj = nn.Linear(width, self.dt_rank + 2 * self.d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, width)
        self.conv1d_x = DepthwiseConv1d(width, self.d_conv)
        self.conv1d_z = DepthwiseConv1d(width, self.d_conv)
        rates = torch.tensor([math.log(i) for i in range(1, self.d_state + 1)])
        self.A_log = nn.Parameter(rates.repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))
        self.out_proj = nn.Linear(2 * width, self.dim, bias=False)
        self.reset_step_parameters()

    def reset_step_parameters(self, step_min: float = 1e-3, step_max: float = 0.1) -> None:
        """Sample `dt_proj` as Mamba does: softplus of its bias is log-uniform in [step_min, step_max]."""
        if self.dt_proj.bias.is_meta:
            return  # nothing to sample, and arithmetic on the meta device imports torch's compiler
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        with torch.no_grad():
            low, high = math.log(step_min), math.log(step_max)
            step = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp()
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    @property
    def reach(self) -> int:
        """Tokens to either side that the convolutions see."""
        return self.conv1d_x.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """Mix x, (batch, length, dim); the shape stays."""
        x, z = self._convolve(x)
        dt, B, C = self._project(x)
        y = self._run_scan(x, dt, B, C, self.D)
        if self.bidirectional:
            y = y + self._run_scan(x, dt, B, C, None, reverse=True)
        return self.out_proj(torch.cat([y, z], dim=-1))

    def forward_slab(
        self, x: Tensor, state: Tensor | None, before: int, after: int
    ) -> tuple[Tensor, Tensor]:
        """Mix a part of a longer sequence, in one direction.

        Args:
            x: Its tokens, and so many of its neighbours before and after it, at most `reach`: as many as
                there are.
            state: What the call for the part before it returned; None for the first part.
            before: Number of neighbours before it.
            after: Number of neighbours after it.

        Returns:
            Its tokens mixed, without the neighbours, and the state for the next part.
        """
        x, z = (branch[:, before : branch.shape[1] - after] for branch in self._convolve(x))
        dt, B, C = self._project(x)
        y, state = self._run_scan(x, dt, B, C, self.D, initial_state=state, return_last_state=True)
        return self.out_proj(torch.cat([y, z], dim=-1)), state

    def _convolve(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, z = self.in_proj(x).chunk(2, dim=-1)
        return F.silu(self.conv1d_x(x)), F.silu(self.conv1d_z(z))

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [self.dt_rank, self.d_state, self.d_state]
        dt, B, C = self.x_proj(x).split(sizes, dim=-1)
        return self.dt_proj(dt), B, C

    def _run_scan(
        self,
        x: Tensor,
        dt: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        reverse: bool = False,
        **state: Any,
    ) -> Any:
        return self.scan(
            x,
            dt,
            -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32))),
            B,
            C,
            D,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
            reverse=reverse,
            backend=self.scan_backend,
            **state,
        )
