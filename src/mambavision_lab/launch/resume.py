"""Turn resume=RUN or resume=auto into the command that continues a run in its own folder; imports no torch.

The run's snapshot is the config, its newest good checkpoint the start, its folder the folder.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from mambavision_lab.config.compose import hydra_config, set_output_dir, without_hydra
from mambavision_lab.config.overrides import key_of
from mambavision_lab.config.paths import path_override
from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.check_command import check_job
from mambavision_lab.launch.command_line import Command
from mambavision_lab.launch.prepared import open_command
from mambavision_lab.runs.folder import (
    adopt_requeue_checkpoints,
    find_newest_checkpoint,
    has_ended,
    short_path,
)
from mambavision_lab.runs.lock import is_taken
from mambavision_lab.runs.snapshot import find_snapshot, is_complete

AUTO = "auto"
_OTHERS = ("ckpt_path", "tune", "paths.output_dir")  # options that contradict it
_FREE = (("trainer", "devices"), ("trainer", "num_nodes"))  # a launcher sets them


def resolve_resume(command: Command) -> Command:
    """Return the command that continues the run which resume= names; any other command as it is.

    With resume=auto that is the newest run of the command's config that has not finished; where there is
    none, the command starts one.

    Raises:
        ConfigError: There is no such run, it is being trained, or another option contradicts it.
    """
    given = command.resume
    if given is None:
        return command
    if command.task != "train":
        raise ConfigError(f"resume={given}: only a training can be resumed")
    if command.is_multirun:
        raise ConfigError(
            f"resume={given} -m: of a single run; give sweep.resume=FOLDER for a sweep"
        )
    keys = {key_of(override): override for override in command.overrides}
    if other := [keys[key] for key in _OTHERS if key in keys]:
        raise ConfigError(f"resume={given} {other[0]}: a run resumes as it is; give one of them")
    if given != AUTO:
        if "hydra.run.dir" in keys or command.from_run is not None:
            other = [keys.get("hydra.run.dir", f"from_run={command.from_run}")]
            raise ConfigError(
                f"resume={given} {other[0]}: a run resumes in its folder with its config; remove the latter"
            )
        folder = find_snapshot(given, "resume").resolve().parent
        if is_taken(folder):
            raise ConfigError(f"resume={given}: a process is training there; end it first")
        return _continue(command, folder)
    found = _find_unfinished(replace(command, resume=None))
    if found is not None:
        return _continue(command, found)
    print("resume=auto: no unfinished run of this config; starting one", flush=True)
    return replace(command, resume=None)


def _continue(command: Command, folder: Path) -> Command:
    """Make the command that continues the run of a folder."""
    adopt_requeue_checkpoints(folder)
    checkpoint = find_newest_checkpoint(folder)
    start = short_path(checkpoint) if checkpoint else "the beginning: it has no good checkpoint"
    print(f"resuming {short_path(folder)} from {start}", flush=True)
    added = [path_override("hydra.run.dir", folder)]
    own_config = str(folder) if is_complete(folder) else command.from_run
    added += [path_override("ckpt_path", checkpoint)] if checkpoint else []
    kept = [o for o in command.overrides if key_of(o) != "hydra.run.dir"]
    given = replace(command, overrides=(*kept, *added), resume=None, is_restart=True)
    return replace(given, from_run=own_config)


def _find_unfinished(command: Command) -> Path | None:
    """Find the newest run beside the folder that a command would have, of its config and without result."""
    prepared = open_command(replace(command, is_restart=True))
    cfg = check_job(prepared, prepared.overrides)
    own = Path(cfg.hydra.runtime.output_dir)
    is_given = any(key_of(o) == "hydra.run.dir" for o in command.overrides)
    folders = [own] if is_given else [*own.parent.glob("*")]
    configs = [f / "config.yaml" for f in folders if (f / "config.yaml").is_file()]
    for file in sorted(configs, key=lambda file: -file.stat().st_mtime):
        folder = file.parent
        # One that has ended is taken where it is asked for: the same command again tests it again.
        if (is_given or not has_ended(folder)) and _is_same(cfg, file) and not is_taken(folder):
            return folder.resolve()
    return None


def _is_same(cfg: DictConfig, file: Path) -> bool:
    """Return whether a run's stored config is what a command's would be in its folder."""
    try:
        stored = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(file)))
    except (YAMLError, UnicodeDecodeError, OSError):  # damaged
        return False
    own = cfg.copy()
    set_output_dir(own, file.parent)
    with hydra_config(own):
        now = cast(dict[str, Any], OmegaConf.to_container(without_hydra(own), resolve=True))
    if now["seed"] is None:
        now["seed"] = stored.get("seed")
    for node, key in _FREE:
        for config in (now, stored):
            (config.get(node) or {}).pop(key, None)
    return now == stored
