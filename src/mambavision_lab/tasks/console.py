"""What the tasks print: one panel at the start, one table at the end."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from mambavision_lab.runs.folder import short_path

console = Console(highlight=False)


def print_panel(title: str, facts: Mapping[str, str]) -> None:
    """Print labelled facts in a panel."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for label, fact in facts.items():
        grid.add_row(label, fact)
    console.print(Panel(grid, title=title, title_align="left", expand=False))


def print_results(title: str, metrics: Mapping[str, float], folder: Path) -> None:
    """Print figures as a table, one row a metric and one column a split, and the run folder."""
    splits = list(dict.fromkeys(name.split("/")[0] for name in metrics))
    # Speeds below figures of merit.
    names = sorted(dict.fromkeys(name.split("/")[1] for name in metrics), key=_is_speed)
    table = Table()
    table.add_column("metric")
    for split in splits:
        table.add_column(split, justify="right")
    for name in names:
        values = (metrics.get(f"{split}/{name}") for split in splits)
        table.add_row(name, *("" if v is None else _shown(name, v) for v in values))
    console.print(title, style="bold", soft_wrap=True)
    console.print(table)
    console.print(f"run folder: {short_path(folder)}", soft_wrap=True)


def _shown(name: str, value: float) -> str:
    if name.startswith("acc"):
        return f"{value:.2%}"
    return f"{value:.0f}" if _is_speed(name) else f"{value:.4f}"


def _is_speed(name: str) -> bool:
    return name.endswith("_per_s")


def human_count(number: int) -> str:
    """1234567 -> 1.23 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)
