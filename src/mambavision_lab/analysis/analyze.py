"""Count a network's parameters, multiply-accumulates and activation memory by stage."""

from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mambavision_lab.errors import reason
from mambavision_lab.models import macs  # noqa: F401  (completes the flop counter)

# Sequences whose members are stages of their own, as those of a ModuleList always are.
CONTAINERS = ("stages", "levels", "layers")
NOTE = (
    "MACs: convolutions, linear layers, the scan and the products of attention. Saved: activations, for "
    "the backward pass."
)


@dataclass(frozen=True)
class Stage:
    """One row of an analysis; `macs` and `activation_bytes` are for the whole given batch."""

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    num_params: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class Analysis:
    """Costs by stage; the last stage, `total`, counts the whole network."""

    input_shape: tuple[int, ...]
    stages: list[Stage]

    @property
    def total(self) -> Stage:
        """The whole network."""
        return self.stages[-1]

    def table(self) -> Table:
        """Make a rich table."""
        shape = " x ".join(map(str, self.input_shape))
        table = Table(
            title=f"input {shape}",
            caption=NOTE,
            caption_justify="left",
        )
        for heading in ("stage", "kind", "output of one"):
            table.add_column(heading)
        for heading in ("params (M)", "MACs (G)", "saved (MiB)"):
            table.add_column(heading, justify="right")
        for stage in self.stages:
            output = "x".join(map(str, stage.output_shape[1:])) if stage.output_shape else ""
            numbers = (stage.num_params / 1e6, stage.macs / 1e9, stage.activation_bytes / 2**20)
            if stage is self.total:
                table.add_section()
            table.add_row(stage.name, stage.kind, output, *(f"{n:.3f}" for n in numbers))
        return table


def analyze_model(model: nn.Module, input_shape: tuple[int, ...]) -> Analysis:
    """Count a network's costs by stage with one forward pass, in evaluation mode.

    Stages are the network's named children; each member of a ModuleList, and of a Sequential called
    `stages`, `levels` or `layers`, is a stage. What the network computes outside its children is
    counted in the total only.

    Args:
        model: Any network of images, or of volumes where its `dims` are 3.
        input_shape: (C, *sides), or (N, C, *sides); one image where N is not given.

    Returns:
        The analysis; `rich.print(analysis.table())` shows it.

    Raises:
        ValueError: The shape is not that of an image, or the network refuses it.
    """
    dims = getattr(model, "dims", 2)
    shape = (1, *input_shape) if len(input_shape) == dims + 1 else tuple(input_shape)
    if len(shape) != dims + 2 or min(shape) < 1:
        sides = "D, H, W" if dims == 3 else "H, W"
        raise ValueError(
            f"input_shape={tuple(input_shape)}; wanted (C, {sides}) or (N, C, {sides}), all positive"
        )
    first = next(model.parameters(), torch.empty(0))
    images = torch.randn(shape, device=first.device, dtype=first.dtype)
    stages = find_stages(model)
    was_training = model.training
    model.eval()
    try:
        shapes, saved = _trace(model, stages, images)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(images)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{type(model).__name__} refuses input {shape}: {reason(error)}"
        ) from error
    finally:
        model.train(was_training)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    rows = [
        Stage(
            name,
            type(module).__name__,
            shapes.get(name),
            num_params(module),
            sum(counts.get(f"{root}.{name}", {}).values()) // 2,
            saved.get(name, 0),
        )
        for name, module in stages.items()
    ]
    total = counter.get_total_flops() // 2
    rows.append(Stage("total", root, shapes.get(""), num_params(model), total, saved[""]))
    return Analysis(shape, rows)


def find_stages(model: nn.Module) -> dict[str, nn.Module]:
    """Find the network's stages; returns them by name, in order."""
    stages: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        is_container = isinstance(child, nn.ModuleList) or (
            name in CONTAINERS and isinstance(child, nn.Sequential)
        )
        members = {f"{name}.{key}": m for key, m in child.named_children()} if is_container else {}
        stages |= members or {name: child}
    return stages


def num_params(module: nn.Module) -> int:
    """Count parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _trace(
    model: nn.Module, stages: dict[str, nn.Module], images: Tensor
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Record the output shape, and bytes saved for the backward pass, of each stage and ("") the network."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes: dict[str, tuple[int, ...]] = {}
    saved = {"": 0}
    active = [""]
    seen: dict[int, Tensor] = {}  # holds the tensors, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and storage.data_ptr() not in seen:
            seen[storage.data_ptr()] = tensor
            saved[""] += storage.nbytes()
            if active[-1]:
                saved[active[-1]] = saved.get(active[-1], 0) + storage.nbytes()
        return tensor

    def note_shape(name: str, output: Any) -> None:
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if isinstance(output, Tensor):
            shapes[name] = tuple(output.shape)

    def enter(name: str) -> Any:
        return lambda module, inputs: active.append(name)

    def leave(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            active.pop()
            note_shape(name, output)

        return hook

    handles = []
    for name, module in stages.items():
        handles += [
            module.register_forward_pre_hook(enter(name)),
            module.register_forward_hook(leave(name)),
        ]
    try:
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with torch.enable_grad(), hooks:
            note_shape("", model(images))
    finally:
        for handle in handles:
            handle.remove()
    return shapes, saved
