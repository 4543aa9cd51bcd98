"""Refuse options of a command that Hydra would accept and then ignore or replace."""

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.overrides import key_of
from mambavision_lab.errors import ConfigError

# Option, also that of its parts -> what to do instead.
_REPLACED = {
    "hydra.mode": "give -m for a sweep, and nothing for a run",
    "hydra.sweep.subdir": "the jobs of a sweep are numbered folders; give hydra.sweep.dir=FOLDER",
    "hydra/sweeper": "sweep=grid or sweep=optuna chooses the jobs of a sweep",
    "hydra.sweeper._target_": "sweep=grid or sweep=optuna chooses the jobs of a sweep",
    "hydra.runtime": "Hydra sets it",
    "hydra.overrides": "Hydra sets it",
    "hydra.job.num": "Hydra sets it",
    "hydra.job.id": "Hydra sets it",
    "hydra.job.config_name": "Hydra sets it; give --config-name NAME",
    "hydra.job.override_dirname": "Hydra sets it",
    "prune.is_done": "it is recorded when a network is pruned",
    "paths.output_dir": "give hydra.run.dir=FOLDER, or hydra.sweep.dir=FOLDER for a sweep",
}
_OF_SWEEPS = ("sweep", "hydra.sweep", "hydra.sweeper", "hydra/launcher", "hydra.launcher")


def check_used(override: str, *, is_multirun: bool) -> None:
    """Refuse an override that would change nothing.

    Raises:
        ConfigError: The message says what to do instead.
    """
    if override == "hydra/sweeper=lab":  # the one that runs every sweep
        return
    key = key_of(override)
    for option, advice in _REPLACED.items():
        if _is_of(key, option):
            raise ConfigError(f"{override}: would be ignored; {advice}")
    if not is_multirun and any(_is_of(key, option) for option in _OF_SWEEPS):
        what = "only a sweep can be resumed" if key == "sweep.resume" else "belongs to a sweep"
        raise ConfigError(f"{override}: {what}; add -m")
    if is_multirun and key == "tune" and override != "tune=null":
        raise ConfigError(f"{override}: tunes a single run and prints what it finds; remove -m")
    if is_multirun and _is_of(key, "hydra.run"):
        raise ConfigError(f"{override}: belongs to a single run; give hydra.sweep.dir=FOLDER")


def check_same_sweep(overrides: list[str], job: DictConfig, sweep: DictConfig) -> None:
    """Refuse a job, such as one of several experiments, that asks for another kind of sweep.

    Args:
        overrides: The job's overrides.
        job: Its config, `hydra` included.
        sweep: The config of the sweep itself.

    Raises:
        ConfigError: It does; the sweep would not do it.
    """
    for name in ("sweep", "hydra.launcher", "hydra.sweep"):
        asked, done = (_plain(cfg, name) for cfg in (job, sweep))
        if asked != done:
            raise ConfigError(
                f"{' '.join(overrides)}: has a {name} of its own, but is one job of a sweep; give "
                f"{name}... for all jobs on the command line, or sweep this one alone"
            )


def _is_of(key: str, option: str) -> bool:
    return key == option or key.startswith(f"{option}.")


def _plain(cfg: DictConfig, name: str) -> object:
    node = OmegaConf.select(cfg, name)
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
