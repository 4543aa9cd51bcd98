"""Write each notebook of examples/ from its script, and with --run execute it: make notebooks."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mambavision_lab.errors import ConfigError, missing_extra, refuse

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = ("train_in_python", "own_lightning_module", "read_a_run")


def main() -> None:
    """Run the command line; exit status 2 without the extra."""
    parser = argparse.ArgumentParser(
        description="Write the notebooks of examples/ from their scripts."
    )
    parser.add_argument(
        "--run", action="store_true", help="also execute them, in a temporary folder"
    )
    given = parser.parse_args()
    try:
        for name in NOTEBOOKS:
            notebook = read_notebook(name)
            path = EXAMPLES / f"{name}.ipynb"
            path.write_text(as_text(notebook), encoding="utf-8")
            if given.run:
                with tempfile.TemporaryDirectory() as folder:
                    execute(notebook, Path(folder))
    except ConfigError as error:
        refuse(error)


def read_notebook(name: str) -> Any:
    """Make a notebook of the script of that name.

    Raises:
        ConfigError: jupytext is not installed.
    """
    try:
        import jupytext
    except ImportError as error:
        raise missing_extra("make notebooks", "jupytext", "notebooks") from error
    notebook = jupytext.read(EXAMPLES / f"{name}.py", fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # not a random one
    notebook.metadata.pop("jupytext", None)
    return notebook


def as_text(notebook: Any) -> str:
    """Write a notebook as the text of its file."""
    import jupytext

    return str(jupytext.writes(notebook, fmt="ipynb")).rstrip("\n") + "\n"


def execute(notebook: Any, folder: Path) -> str:
    """Execute a notebook in a folder; returns what its cells printed.

    Raises:
        ConfigError: nbclient or ipykernel is not installed.
    """
    try:
        import ipykernel  # noqa: F401  (the kernel that runs the cells)
        from nbclient import NotebookClient
    except ImportError as error:
        raise missing_extra("make notebooks", "nbclient", "notebooks") from error
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


if __name__ == "__main__":
    main()
