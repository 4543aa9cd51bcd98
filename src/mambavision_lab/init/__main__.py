"""Lay out a project: configs, a data set, a network, a test and a Makefile, to be changed.

python -m mambavision_lab.init my_project
"""

import argparse
import importlib.util
import keyword
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from mambavision_lab.errors import ConfigError, refuse

_TEMPLATE = Path(__file__).parent / "template"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit status 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m mambavision_lab.init",
        description="Lay out a project with configs, a data set and a network of its own.",
    )
    parser.add_argument("folder", metavar="my_project", help="a new folder, named like a module")
    folder = Path(parser.parse_args(arguments).folder)
    try:
        lay_out(folder)
    except ConfigError as error:
        refuse(error)
    print(
        f"{folder}/ is laid out; next:\n"
        f"  cd {folder}\n"
        "  python -m pip install -e '.[dev]'\n"
        "  make test train"
    )


def lay_out(folder: Path) -> None:
    """Write the files of a new project; its package is named after its folder.

    Raises:
        ConfigError: The folder exists, cannot be written, or its name is none of a package.
    """
    name = folder.name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError(
            f"{name}: the folder is named like its Python package; wanted letters, digits and _, such as "
            "my_project"
        )
    if folder.exists():
        raise ConfigError(f"{folder}: exists already; give the name of a new folder")
    if importlib.util.find_spec(name) is not None:
        raise ConfigError(f"{name}: is the name of a package that is installed; give another")
    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        variable_start_string="[[",
        variable_end_string="]]",
    )
    for source in sorted(_TEMPLATE.rglob("*.j2")):
        path = source.relative_to(_TEMPLATE).with_suffix("")
        target = folder / str(path).replace("package", name)
        text = environment.from_string(source.read_text(encoding="utf-8")).render(name=name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{target}: {error.strerror}; choose a folder that can be written"
            ) from error


if __name__ == "__main__":
    main()
