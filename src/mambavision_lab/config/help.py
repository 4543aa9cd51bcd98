"""Write `--help`: groups and their choices with one line each, from the first comments of the YAMLs."""

import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from mambavision_lab.files import configs_folder, list_choices

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # OmegaConf's takes many times as long
_LINE = 100  # characters of the sentences that are shown of a comment
_USAGE = """Usage: python {task}.py [group=choice] [key=value] ...

{about}

Any value can be overridden with key=value; --cfg job shows the whole config.
check=true checks a command and starts nothing; -m runs a sweep; from_run=FOLDER
composes as an earlier run did (trust=true lets the config in a folder call what
is no part of this project). Every key and what it means: docs/, built by
make docs. Tab completion in bash:
  eval "$(python {task}.py -sc install=bash)"
"""


def print_help(config_name: str) -> None:
    """Print the help of a command; a reader that closes the pipe early, such as head, is no error."""
    try:
        print(help_text(config_name), flush=True)
    except BrokenPipeError:
        with Path(os.devnull).open("w") as nothing:  # for Python's own last flush
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def help_text(config_name: str) -> str:
    """Return the help of the command that is configured by `configs/<config_name>.yaml`.

    Its lines are as wide as the terminal, at most 100 characters; 80 where there is none.
    """
    columns = min(shutil.get_terminal_size((80, 24)).columns, _LINE)
    root = configs_folder() / f"{config_name}.yaml"
    loaded = OmegaConf.load(root)
    introduction = textwrap.fill(about(root), columns)
    lines = [_USAGE.format(task=config_name, about=introduction)]
    lines.append("Groups and their choices (* is the default):")
    for entry in loaded.defaults:
        if not OmegaConf.is_dict(entry):
            continue
        ((name, default),) = entry.items()
        group = str(name).removeprefix("optional ")
        choices = list_choices(group)
        if group in ("paths", "hydra") or not choices:
            continue
        lines.append(f"\n  {group}=")
        width = max(map(len, choices))
        for choice in choices:
            mark = "*" if choice == default else " "
            text = about(configs_folder() / group / f"{choice}.yaml")
            if group == "experiment":
                text = f"{' on '.join(_choices_of(choice).values())}: {text}".removeprefix(": ")
            first = f"   {mark} {choice:<{width}}  "
            after = " " * min(len(first), 30)
            lines += textwrap.wrap(
                text, columns, initial_indent=first, subsequent_indent=after, break_on_hyphens=False
            )
    launchers = "basic, joblib, submitit_local, submitit_slurm, ray"
    lines.append(f"\n  hydra/launcher=  (with -m)\n     {launchers}")
    commands = OmegaConf.select(loaded, "hydra.help.footer")
    if commands:
        lines.append(f"\nExamples:\n{commands.rstrip()}")
    return "\n".join(lines)


def _choices_of(experiment: str) -> dict[str, str]:
    """Return which network and data an experiment chooses, itself or by the one that it begins with."""
    chosen: dict[str, str] = {}
    path = configs_folder() / "experiment" / f"{experiment}.yaml"
    loaded: Any = yaml.load(path.read_text(encoding="utf-8"), _YAML)
    for entry in loaded.get("defaults", []):
        if entry == "_self_":
            continue
        if isinstance(entry, str):
            chosen |= _choices_of(entry)
        else:
            chosen |= {str(key).rpartition("/")[2]: str(value) for key, value in entry.items()}
    return {group: chosen[group] for group in ("model", "data") if group in chosen}


def about(path: Path) -> str:
    """Return the first sentences of a YAML's first comment, as many as fit a line."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line[:1] != "#":
            break
        # Not what instructs Hydra, nor the command that an experiment opens with.
        if not line.startswith(("# @package", "# python ")):
            comment.append(line[1:].strip())
    first, *others = re.split(r"(?<=\.) +(?=[(A-Z])", " ".join(comment))
    while others and len(first) + len(others[0]) < _LINE:
        first += f" {others.pop(0)}"
    return first
