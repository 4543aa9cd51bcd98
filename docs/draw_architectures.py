"""Draw one network of each family, as configs/model defines it, into docs/architectures.png.

python docs/draw_architectures.py
"""

from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from mambavision_lab import analyze_model, create_mambavision
from mambavision_lab.layers.attention import Attention
from mambavision_lab.layers.mixer import MambaVisionMixer

COLORS = {
    "convolution": "#e69f00",
    "Mamba mixer + MLP": "#0072b2",
    "attention + MLP": "#cc5f9a",
    "pooling, classifier": "#6b7280",
}
INK = "#1c2024"
IMAGE_SIZE = 224
Column = tuple[str, list[str], str]  # heading, kind of each block from top to bottom, shape


def main() -> None:
    """Draw the smallest network of each family."""
    figure = Figure(figsize=(11, 6.4), layout="constrained", facecolor="white")
    top, bottom = figure.subplots(2, 1)
    draw(
        top,
        "Hierarchical family: nvidia/mambavision_t (a strided convolution leads to each next stage)",
        hierarchical("nvidia/mambavision_t"),
    )
    draw(bottom, "Plain family: mambavision_tiny", plain("mambavision_tiny"))
    handles = [Patch(color=color, label=name) for name, color in COLORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    path = Path(__file__).with_name("architectures.png")
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def hierarchical(name: str) -> list[Column]:
    """List the columns of a hierarchical network: stem, four stages and head."""
    net: Any = create_mambavision(name).eval()
    shapes = {s.name: s.output_shape for s in analyze_model(net, (3, 224, 224)).stages}
    columns: list[Column] = [("stem", ["convolution"] * 2, _map(shapes["patch_embed"]))]
    for i, stage in enumerate(net.levels):
        kinds = [_kind(block) for block in stage.blocks]
        columns.append((f"stage {i + 1}", kinds, _map(shapes[f"levels.{i}"])))
    return [*columns, ("head", ["pooling, classifier"], f"{net.num_classes} classes")]


def plain(name: str) -> list[Column]:
    """List the columns of a plain network: stem, each block and head."""
    net: Any = create_mambavision(name).eval()
    with torch.no_grad():
        tokens = _map(tuple(net.stem(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)).shape))
    strides = [m for m in net.stem.modules() if isinstance(m, torch.nn.Conv2d)]
    columns: list[Column] = [("stem", ["convolution"] * len(strides), tokens)]
    columns += [(f"block {i + 1}", [_kind(b)], tokens) for i, b in enumerate(net.blocks)]
    return [*columns, ("head", ["pooling, classifier"], f"{net.num_classes} classes")]


def draw(axes: Axes, title: str, columns: list[Column]) -> None:
    """Draw one network from left to right: a box for each block, a column for each stage."""
    columns = [("image", [], f"3 x {IMAGE_SIZE} x {IMAGE_SIZE}"), *columns]
    for x, (heading, kinds, shape) in enumerate(columns):
        height = min(0.16, 0.9 / max(1, len(kinds)))
        for y, kind in enumerate(kinds):
            at = (x - 0.34, (len(kinds) / 2 - y - 1) * height)
            box = FancyBboxPatch(
                at,
                0.68,
                0.8 * height,
                boxstyle="round,pad=0,rounding_size=0.03",
                color=COLORS[kind],
            )
            axes.add_patch(box)
        if not kinds:
            axes.add_patch(
                FancyBboxPatch(
                    (x - 0.25, -0.2), 0.5, 0.4, boxstyle="square,pad=0", fc="none", ec=INK
                )
            )
        axes.text(x, 0.56, heading, ha="center", va="bottom", color=INK, weight="bold")
        axes.text(x, -0.56, shape, ha="center", va="top", color=INK, fontsize=9)
        if x:
            axes.annotate(
                "", (x - 0.36, 0), (x - 0.64, 0), arrowprops={"arrowstyle": "->", "color": INK}
            )
    axes.set_title(title, color=INK, loc="left", fontsize=12)
    axes.set(xlim=(-0.6, len(columns) - 0.4), ylim=(-0.75, 0.75))
    axes.set_axis_off()


def _kind(block: Any) -> str:
    modules = list(block.modules())
    if any(isinstance(m, MambaVisionMixer) for m in modules):
        return "Mamba mixer + MLP"
    is_attention = any(isinstance(m, Attention) for m in modules)
    return "attention + MLP" if is_attention else "convolution"


def _map(shape: Any) -> str:
    return " x ".join(map(str, shape[1:]))


if __name__ == "__main__":
    main()
