"""Set up and fill loggers that need more than their library's constructor.

wandb takes long to import, so only its own logger imports it.
"""

import logging
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import write_atomically
from mambavision_lab.lit.csv_logger import ResumableCSVLogger
from mambavision_lab.lit.tolerant_logger import tolerating

log = logging.getLogger(__name__)

# Seconds that a server may take to begin a run, and to receive the rest of it at its end; what it has not
# received stays in the run's folder for `wandb sync`.
_TIMEOUTS = {"init_timeout": 60, "finish_timeout": 300}


def wandb_logger(
    save_dir: str,
    project: str,
    *,
    name: str | None = None,
    group: str | None = None,
    offline: bool | None = None,
) -> WandbLogger:
    """Make a Weights & Biases logger that writes offline where there is no API key or no network.

    A run that resumes in its folder continues its run there, whose id is in `wandb_id.txt`.

    Args:
        save_dir: Folder that receives the run's `wandb/`.
        project: Project on the server.
        name: Name of the run, or None for a random one.
        group: Runs of one group are shown together.
        offline: None decides by API key and network, and logs the reason for writing offline.

    Raises:
        ConfigError: offline=False, and the server cannot be used.
    """
    obstacle = None if offline else _why_offline()
    if obstacle and offline is False:
        raise ConfigError(
            f"logger.wandb.offline=false, but {obstacle}; or leave it null to write offline"
        )
    if obstacle:
        log.warning("wandb writes offline (%s); upload later with: wandb sync", obstacle)
    offline = offline or obstacle is not None
    # Given to wandb itself, which no longer reads what Lightning puts into the environment.
    mode = "offline" if offline else "online"
    return WandbLogger(
        save_dir=save_dir,
        project=project,
        name=name,
        group=group,
        offline=offline,
        mode=mode,
        id=_wandb_id(Path(save_dir)),
        resume="allow",
        settings=_TIMEOUTS,
    )


def resume_loggers(loggers: Iterable[Logger], num_steps: int, has_open_epoch: bool) -> None:
    """Let loggers drop what a run logged after the checkpoint that it resumes from, and log it anew.

    metrics.csv keeps the rows before; TensorBoard is told to hide the steps behind. W&B cannot forget: it
    shows them twice.
    """
    for logger in loggers:
        if isinstance(logger, ResumableCSVLogger):
            logger.restore(num_steps, has_open_epoch)
        elif isinstance(logger, TensorBoardLogger):
            from torch.utils.tensorboard import SummaryWriter

            SummaryWriter(logger.log_dir, purge_step=num_steps).close()


def log_snapshot(loggers: Iterable[Logger], run_folder: Path) -> None:
    """Log the run's snapshot and provenance to W&B as an artifact, which `from_run` takes once downloaded."""
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            continue
        import wandb

        with tolerating(logger):
            artifact = wandb.Artifact(f"snapshot-{logger.experiment.id}", type="snapshot")
            # Immutable: uploaded from where they are, without a copy.
            artifact.add_dir(str(run_folder / "snapshot"), name="snapshot", policy="immutable")
            artifact.add_file(str(run_folder / "provenance.json"), policy="immutable")
            logger.experiment.log_artifact(artifact)


def _wandb_id(folder: Path) -> str | None:
    """Return the id of a folder's W&B run, a new one where there is none; only rank 0 logs."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return None
    path = folder / "wandb_id.txt"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, secrets.token_hex(4) + "\n")
    return path.read_text().strip()


def _why_offline(timeout_s: float = 3.0) -> str | None:
    import wandb

    settings = wandb.setup().settings
    if settings.mode in ("offline", "disabled"):
        return f"WANDB_MODE={settings.mode}"
    address = urlsplit(settings.base_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=timeout_s).close()
    except OSError as error:
        return f"{address.hostname} cannot be reached: {reason(error)}"
    if not wandb.login(prompt=False):
        return "no API key; run: wandb login"
    return None
