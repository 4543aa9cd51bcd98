"""The command line, read once into a frozen `Command` that is handed on.

    sys.argv -> read_command -> Command(task, overrides, is_multirun, check, ...)

Nothing else in the package reads `sys.argv`. What changes a command (a restart that resumes, say) makes
a new one: `command.with_overrides(...)`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hydra._internal.utils import get_args_parser

from mambavision_lab.config.overrides import unquoted
from mambavision_lab.config.paths import literal_path, read_path
from mambavision_lab.errors import ConfigError


@dataclass(frozen=True)
class Command:
    """One command, as it was typed.

    Attributes:
        task: Name of its root config in `configs/`, such as "train".
        argv: The command line itself, the program first, for records and messages.
        overrides: Hydra's overrides, in the order given; files and folders in them are quoted for Hydra.
        is_multirun: Whether it is a sweep (-m).
        check: Whether it is to be checked only (check=true).
        is_trusting: Whether the config of a run's folder may call anything (trust=true).
        from_run: Run folder to start from (from_run=...), or None.
        resume: Run folder to continue in (resume=FOLDER), or "auto" for the newest of this config, or None.
        is_restart: Whether a launcher starts it again, in the folder of its run.
        flags: Hydra's flags, by their names in Hydra's own parser, such as "cfg".
    """

    task: str
    argv: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    is_multirun: bool = False
    check: bool = False
    is_trusting: bool = False
    from_run: str | None = None
    resume: str | None = None
    is_restart: bool = False
    flags: argparse.Namespace = field(default_factory=lambda: _parse([]))

    @property
    def shows_only(self) -> bool:
        """Whether it asks for help, a config or completions, and runs nothing."""
        f = self.flags
        return any((f.help, f.hydra_help, f.cfg, f.info, f.shell_completion))

    def with_overrides(self, *overrides: str) -> "Command":
        """Return the same command with more overrides behind those given."""
        return replace(self, overrides=(*self.overrides, *overrides))


def read_command(task: str) -> Command:
    """Parse this process's command line.

    Raises:
        ConfigError: A flag is unknown or lacks its value, or check= or trust= is neither true nor false.
    """
    return parse_command(task, sys.argv)


def parse_command(task: str, argv: Sequence[str]) -> Command:
    """Parse a command line, the program first; see `read_command`."""
    flags = _parse(list(argv[1:]))
    overrides: list[str] = flags.overrides
    check, is_trusting = _take_flag(overrides, "check"), _take_flag(overrides, "trust")
    from_run = _take(overrides, "from_run")
    resume = _take_resume(overrides)
    is_multirun = bool(flags.multirun)
    program = f"{task}.py" if argv[0] == "-c" else argv[0]  # started by code, not by a file
    return Command(
        task=task,
        argv=(program, *argv[1:]),
        overrides=tuple(literal_path(o, is_multirun=is_multirun) for o in overrides),
        is_multirun=is_multirun,
        check=check,
        is_trusting=is_trusting,
        from_run=None if from_run is None else read_path(from_run),
        resume=resume,
        flags=flags,
    )


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Let Hydra's parser have the flags, which may stand anywhere among the overrides."""
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        flags, unknown = parser.parse_known_intermixed_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    if flags.experimental_rerun:
        raise ConfigError("--experimental-rerun: no such flag here; give from_run=RUN")
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such flag; see --help and --hydra-help")
    return flags


def _take_flag(overrides: list[str], key: str) -> bool:
    """Remove key=true or key=false from overrides; returns the last value given."""
    value = unquoted(_take(overrides, key) or "false").lower()
    if value not in ("true", "false"):
        raise ConfigError(f"{key}={value}: wanted true or false")
    return value == "true"


def _take_resume(overrides: list[str]) -> str | None:
    """Remove resume=auto or resume=FOLDER; what is to be taken of a ckpt_path stays: exact or weights."""
    given = [override for override in overrides if override.startswith("resume=")]
    value = read_path(given[-1].partition("=")[2]) if given else "exact"
    if value in ("exact", "weights"):
        return None
    _take(overrides, "resume")
    return value


def _take(overrides: list[str], key: str) -> str | None:
    """Remove key=... from overrides; returns the last value given."""
    given = [override for override in overrides if override.startswith(f"{key}=")]
    for override in given:
        overrides.remove(override)
    return given[-1].partition("=")[2] if given else None
