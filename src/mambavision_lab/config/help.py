"""Write `--help`: groups and their choices with one line each, from the first comments of the YAMLs."""

import re
from pathlib import Path

from omegaconf import OmegaConf

from mambavision_lab.files import configs_folder, list_choices

_LINE = 100  # characters
_USAGE = """Usage: python {task}.py [group=choice] [key=value] ...

{about}

Any value can be overridden with key=value; --cfg job shows the whole config. check=true checks a command and
starts nothing; -m runs a sweep; from_run=FOLDER composes as an earlier run did (trust=true lets the config
in a folder call what is no part of this project). Tab completion in bash:
  eval "$(python {task}.py -sc install=bash)"
"""


def help_text(config_name: str) -> str:
    """Return the help of the command that is configured by `configs/<config_name>.yaml`."""
    root = configs_folder() / f"{config_name}.yaml"
    loaded = OmegaConf.load(root)
    lines = [_USAGE.format(task=config_name, about=about(root))]
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
            lines.append(f"   {mark} {choice:<{width}}  {text}")
    launchers = "basic, joblib, submitit_local, submitit_slurm, ray"
    lines.append(f"\n  hydra/launcher=  (with -m)\n     {launchers}")
    commands = OmegaConf.select(loaded, "hydra.help.footer")
    if commands:
        lines.append(f"\nExamples:\n{commands.rstrip()}")
    return "\n".join(lines)


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
