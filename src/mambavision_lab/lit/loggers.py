"""Loggers that need more than their library's constructor."""

import csv
import logging
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from mambavision_lab.errors import ConfigError

log = logging.getLogger(__name__)


def wandb_logger(
    save_dir: str,
    project: str,
    *,
    name: str | None = None,
    group: str | None = None,
    offline: bool | None = None,
) -> WandbLogger:
    """A Weights & Biases logger that works offline where there is no key or no network.

    Args:
        save_dir: Folder that receives the run's `wandb/`.
        project: Project on the server.
        name: Name of the run, or None for a drawn one.
        group: Runs of one group are shown together.
        offline: None decides by key and network, and says so once.

    Raises:
        ConfigError: offline=False, and the server cannot be used.
    """
    reason = None if offline else _why_offline()
    if reason and offline is False:
        raise ConfigError(
            f"logger.wandb.offline=false, but {reason}; or leave it null to write offline"
        )
    if reason:
        log.warning("wandb writes offline (%s); upload later with: wandb sync", reason)
    offline = offline or reason is not None
    # The mode is said to wandb itself: it no longer reads what Lightning puts into the environment.
    mode = "offline" if offline else "online"
    return WandbLogger(
        save_dir=save_dir, project=project, name=name, group=group, offline=offline, mode=mode
    )


def restore_csv_metrics(loggers: Iterable[Logger], num_steps: int) -> None:
    """Let a csv logger go on with the figures of a run's first steps; it would start without them."""
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            path = Path(logger.log_dir) / "metrics.csv"
            if path.is_file():
                with path.open(newline="") as file:
                    rows = [row for row in csv.DictReader(file) if int(row["step"]) < num_steps]
                logger.experiment.metrics = [dict(row) for row in rows]
                logger.save()


def log_snapshot(loggers: Iterable[Logger], run_folder: Path) -> None:
    """Give W&B the run's snapshot and provenance as an artifact; `from_run` takes the downloaded folder."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            artifact = wandb.Artifact(f"snapshot-{logger.experiment.id}", type="snapshot")
            # Immutable: read where they lie when they are uploaded, which copies nothing.
            artifact.add_dir(str(run_folder / "snapshot"), name="snapshot", policy="immutable")
            artifact.add_file(str(run_folder / "provenance.json"), policy="immutable")
            logger.experiment.log_artifact(artifact)


def _why_offline(timeout_s: float = 3.0) -> str | None:
    import wandb

    if wandb.setup().settings.mode in ("offline", "disabled"):
        return "WANDB_MODE says so"
    address = urlsplit(wandb.setup().settings.base_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=timeout_s).close()
    except OSError as error:
        return f"{address.hostname} cannot be reached: {error}"
    if not wandb.login(prompt=False):
        return "no API key; run: wandb login"
    return None
