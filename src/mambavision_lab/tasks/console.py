"""Print the tasks' output: a panel at the start of a run, a table at its end."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mambavision_lab.metrics import format_metric, is_speed
from mambavision_lab.runs.folder import short_path

console = Console(highlight=False, markup=False)  # [x] in a name is no markup


def print_panel(title: str, details: Mapping[str, str]) -> None:
    """Print labelled details in a panel."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for label, detail in details.items():
        grid.add_row(label, detail)
    console.print(Panel(grid, title=Text(title), title_align="left", expand=False))


def print_results(title: str, metrics: Mapping[str, float], folder: Path) -> None:
    """Print metrics as a table, one row per metric and one column per split, and the run folder."""
    splits = list(dict.fromkeys(name.split("/")[0] for name in metrics))
    # Speeds last.
    names = sorted(dict.fromkeys(name.split("/")[1] for name in metrics), key=is_speed)
    table = Table()
    table.add_column("metric")
    for split in splits:
        table.add_column(split, justify="right")
    for name in names:
        values = (metrics.get(f"{split}/{name}") for split in splits)
        table.add_row(name, *("" if v is None else format_metric(name, v) for v in values))
    console.print(title, style="bold", soft_wrap=True)
    console.print(table)
    console.print(f"run folder: {short_path(folder)}", soft_wrap=True)


def print_next_steps(folder: Path, can_predict: bool = True) -> None:
    """Say after somebody's first run what can be done with its folder.

    Args:
        folder: The run's.
        can_predict: Whether its network is one of ours, which predict.py builds from a checkpoint.
    """
    run = short_path(folder)
    # Outside a clone the installed commands take their place.
    predict, evaluate, train = (
        f"python {task}.py" if Path(f"{task}.py").is_file() else f"mambavision-{task}"
        for task in ("predict", "eval", "train")
    )
    use = f"{predict} from_run={run} images=FOLDER" if can_predict else f"{evaluate} from_run={run}"
    for step in (
        f"next: open {run}/report.html in a browser",
        f"      {use}",
        f"      {train} --help   (data, networks, recipes: experiment=NAME)",
    ):
        console.print(step, soft_wrap=True)


def human_count(number: int) -> str:
    """Format a count with three digits and a unit: 1234567 -> 1.23 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)


def printable(text: object) -> str:
    """Put a question mark for each byte of a file's name that does not decode."""
    return str(text).encode(errors="replace").decode()


def name_below(images: str, name: str) -> str:
    """Return the path of a file that was found below the folder that was given, or begins a glob."""
    given = Path(images)
    is_folder = given.is_dir() and Path(name) != given  # else a file, or a clip's folder
    folder = given if is_folder else next((p for p in given.parents if p.is_dir()), given)
    return str(Path(name).relative_to(folder))
