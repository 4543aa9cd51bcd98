"""`--help`: groups and their choices with one line each, out of the first comments of the YAMLs."""

from pathlib import Path

from omegaconf import OmegaConf

from mambavision_lab.files import configs_folder

_USAGE = """Usage: python {task}.py [group=choice] [key=value] ...

{about}

Any value can be overridden with key=value; --cfg job shows the whole config. check=true checks a command and
starts nothing; -m runs a sweep; from_run=FOLDER composes as an earlier run did. Tab completion in bash:
  eval "$(python {task}.py -sc install=bash)"
"""


def help_text(config_name: str) -> str:
    """The help of the command that is configured by `configs/<config_name>.yaml`."""
    root = configs_folder() / f"{config_name}.yaml"
    loaded = OmegaConf.load(root)
    lines = [_USAGE.format(task=config_name, about=first_comment(root))]
    lines.append("Groups and their choices (* is the default):")
    for entry in loaded.defaults:
        if not OmegaConf.is_dict(entry):
            continue
        ((name, default),) = entry.items()
        group = str(name).removeprefix("optional ")
        files = sorted((configs_folder() / group).glob("*.yaml"))
        if group in ("paths", "hydra") or not files:
            continue
        lines.append(f"\n  {group}=")
        for file in files:
            mark = "*" if file.stem == default else " "
            lines.append(f"   {mark} {file.stem:<18} {first_comment(file)}")
    launchers = "basic, joblib, submitit_local, submitit_slurm, ray"
    lines.append(f"\n  hydra/launcher=  (with -m)\n     {launchers}")
    commands = OmegaConf.select(loaded, "hydra.help.footer")
    if commands:
        lines.append(f"\nExamples:\n{commands.rstrip()}")
    return "\n".join(lines)


def first_comment(path: Path) -> str:
    """The first comment line of a YAML that is no instruction to Hydra."""
    comments = [line[1:].strip() for line in path.read_text().splitlines() if line[:1] == "#"]
    said = [line for line in comments if line and not line.startswith("@package")]
    about = said[0] if said else ""
    # An experiment opens with its command; what follows says more.
    return said[1] if about.startswith("python ") and len(said) > 1 else about
