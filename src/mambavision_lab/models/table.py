"""Make the table of all networks: parameters, MACs at the native image size, published accuracy."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from rich import box
from rich.table import Table

from mambavision_lab.models.create import create_mambavision
from mambavision_lab.models.macs import Macs, count_macs
from mambavision_lab.models.registry import BASELINES, VARIANTS, Variant

HEADINGS = ("model", "px", "M params", "G MACs", "G attn", "top-1", "21K")
NOTE = (
    "Parameters at 1000 classes (nano and micro: 10) and three channels. Multiply-accumulates of one image "
    "in convolutions, linear layers and the scan; those of attention's products stand apart, because the "
    "paper's numbers agree without them. Top-1: published, in percent on ImageNet-1K, after training on "
    "it alone and after pre-training on ImageNet-21K."
)
START, END = "<!-- models: python -m mambavision_lab.models -->", "<!-- end of models -->"


@dataclass(frozen=True)
class Row:
    """Numbers of one network."""

    variant: Variant
    num_params: int
    macs: Macs

    def cells(self) -> tuple[str, ...]:
        """Return the cells of its row, one for each of `HEADINGS`."""
        v = self.variant
        macs = (f"{count / 1e9:.2f}" if count else "" for count in self.macs)
        accuracies = ("" if top1 is None else f"{top1:.1f}" for top1 in (v.top1, v.top1_21k))
        return (v.config, str(v.image_size), f"{self.num_params / 1e6:.2f}", *macs, *accuracies)


def measure(variant: Variant) -> Row:
    """Build a network on the meta device and count."""
    with torch.device("meta"):
        net = create_mambavision(variant.config, variant.num_classes, **variant.size_options())
    num_params = sum(parameter.numel() for parameter in net.parameters())
    return Row(variant, num_params, count_macs(net, variant.image_size))


def measure_all() -> list[Row]:
    """Measure all networks, ours first."""
    return [measure(variant) for variant in (*VARIANTS, *BASELINES)]


def rich_table(rows: Iterable[Row]) -> Table:
    """Lay the table out for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption=NOTE, caption_justify="left")
    for i, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells())
    return table


def markdown(rows: Iterable[Row]) -> str:
    """Lay the table out for docs/networks.md, with its note."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
    for row in rows:
        name, *cells = row.cells()
        lines.append("| " + " | ".join([f"`{name}`", *cells]) + " |")
    return "\n".join([*lines, "", NOTE])


def replace_block(text: str, block: str) -> str:
    """Put a block between the two marker lines of a text.

    Raises:
        ValueError: The markers are not there once each and in order.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end or START in rest or END in before or END in after:
        raise ValueError(f"wanted the two lines {START} and {END}, once each and in this order")
    return f"{before}{START}\n{block}\n{END}{after}"
