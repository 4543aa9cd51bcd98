"""Run a network once and keep what its attention and its scans were given.

Attention is seen where it reaches `scaled_dot_product_attention`, so that every network that calls it is
covered: ours, and those of timm, whose fused kernels are asked for. A scan is seen where its mixer calls
`mixer.scan`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mambavision_lab.explainers.base import require_finite, without_slabs
from mambavision_lab.explainers.calls import AttentionCall, Call, Record, ScanCall
from mambavision_lab.explainers.tokens import TokenLayout
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.position import token_grid
from mambavision_lab.layers.window import sequence_window
from mambavision_lab.models.plain import PlainMambaVision
from mambavision_lab.models.stage import Stage, fit_window


@torch.no_grad()
def record(net: nn.Module, image: Tensor) -> Record:
    """Run a network on one image (1, C, H, W), volume or clip (1, C, D, H, W).

    Raises:
        ConfigError: It gives values that are not finite.
    """
    recorder = _Recorder(net, image)
    with ExitStack() as hooks:
        hooks.enter_context(without_slabs(net))
        for name, module in net.named_modules():
            hooks.enter_context(_hooked(recorder, name, module))
        hooks.enter_context(_AttentionMode(recorder))
        logits = net.forward(image)  # not net(): what net.compile() made hides its parts
    return Record(require_finite(logits, "the network's output for this image"), (*recorder.calls,))


def _is_swin(module: nn.Module) -> bool:
    """Return whether a module is a block of timm's Swin, which cuts its map, rolled, into windows."""
    return hasattr(module, "window_size") and hasattr(module, "shift_size")


def _pair(sides: Sequence[int]) -> tuple[int, int]:
    rows, columns = sides  # timm's are networks of images
    return rows, columns


class _Recorder:
    """Collects the calls; knows which module runs, and on which windows."""

    def __init__(self, net: nn.Module, image: Tensor) -> None:
        self.calls: list[Call] = []
        self.names: list[str] = [""]  # of the modules that run, the innermost last
        self.window_layout: TokenLayout | None = None
        self.net, self.sides = net, tuple(image.shape[2:])

    def layout(self, length: int) -> TokenLayout | None:
        """Find the layout of sequences of this length."""
        if self.window_layout is not None:
            return self.window_layout
        if isinstance(self.net, PlainMambaVision):
            grid = token_grid(self.sides, self.net.patch)
            window = sequence_window(grid, self.net.window_slices)
            return TokenLayout(grid, window, order=self.net.scan_order)
        patches: Any = getattr(self.net, "patch_embed", None)  # of timm's vision transformers
        if not hasattr(patches, "grid_size"):
            return None
        grid = _pair(patches.dynamic_feat_size(self.sides))
        num_prefix = length - math.prod(grid)
        is_known = num_prefix == getattr(self.net, "num_prefix_tokens", 0)
        return TokenLayout(grid, grid, num_prefix) if is_known else None

    def scan(
        self, index: int, original: Callable[..., Any], *arguments: Any, **options: Any
    ) -> Any:
        """Keep the arguments of a scan of the mixer recorded at an index, and run it."""
        call = self.calls[index]
        assert isinstance(call, ScanCall)
        self.calls[index] = replace(call, arguments=(*call.arguments, (arguments, options)))
        return original(*arguments, **options)


class _AttentionMode(TorchFunctionMode):
    """Keep the arguments of every call of attention."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._keep(*args, **options)
        return func(*args, **options)

    def _keep(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        mask = attn_mask
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)
        recorder = self.recorder
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        layout = recorder.layout(key.shape[-2]) if query.shape[-2] == key.shape[-2] else None
        recorder.calls.append(
            AttentionCall(recorder.names[-1], layout, query, key, mask, float(scale))
        )


@contextmanager
def _hooked(recorder: _Recorder, name: str, module: nn.Module) -> Iterator[None]:
    """Tell the recorder when a module starts and ends, while the block runs."""

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        recorder.names.append(name)
        if isinstance(module, Stage) and module.window_size is not None:
            grid = tuple(inputs[0].shape[2:])
            slices = module.window_slices or module.window_size
            window = fit_window(module.window_size, grid, module.clamp_windows, slices)
            recorder.window_layout = TokenLayout(grid, window, order=module.scan_order)
        elif _is_swin(module):
            block: Any = module
            window, shift = _pair(block.window_size), _pair(block.shift_size)
            recorder.window_layout = TokenLayout(_pair(inputs[0].shape[1:3]), window, shift=shift)
        elif isinstance(module, MambaVisionMixer):
            layout = recorder.layout(inputs[0].shape[1])
            recorder.calls.append(ScanCall(name, module, layout, inputs[0]))
            index, original = len(recorder.calls) - 1, module.scan
            module.scan = lambda *args, **options: recorder.scan(index, original, *args, **options)

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        recorder.names.pop()
        if isinstance(module, Stage) or _is_swin(module):
            recorder.window_layout = None
        elif isinstance(module, MambaVisionMixer):
            restore_scan(module, own_scan)

    own_scan = vars(module).get("scan")
    attention: Any = module
    is_unfused = getattr(module, "fused_attn", None) is False  # timm's Swin, as it is made
    if is_unfused:
        attention.fused_attn = True
    hooks = module.register_forward_pre_hook(start), module.register_forward_hook(end)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        if is_unfused:
            attention.fused_attn = False
        if isinstance(module, MambaVisionMixer):
            restore_scan(module, own_scan)


def restore_scan(mixer: MambaVisionMixer, own_scan: Callable[..., Tensor] | None) -> None:
    """Give a mixer the scan that it had: one of its own, or None for that of its class."""
    if own_scan is not None:
        mixer.scan = own_scan
    else:
        vars(mixer).pop("scan", None)
