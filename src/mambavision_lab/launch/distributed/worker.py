"""What each process of a run does at its beginning and, if it fails, at its end."""

import logging
import re
import sys
import time
import traceback
import warnings
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.resolvers import register
from mambavision_lab.errors import ConfigError

# How the loss of another process shows: its own error, or the launcher, says why it was lost.
_LOST_PEER = re.compile(
    r"connection (closed|reset|refused|was)|broken pipe|gloo|nccl|peer|socket|recvvalue",
    re.IGNORECASE,
)
# For the launcher to end this process, another one having failed: of what all of them meet, rank 0 tells
# before the others do; and what comes of a lost process is not told beside the cause.
_PATIENCE_S = 3.0
_PATIENCE_WITH_LOSSES_S = 5.0


def hydra_values() -> dict[str, Any]:
    """Hydra's own config as plain values, which can be sent; classes of launcher plugins cannot."""
    config = HydraConfig.instance().cfg
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))


def begin_rank(rank: int, hydra: dict[str, Any], argv: list[str]) -> DictConfig:
    """Make this process like the one that has composed the config; only rank 0 writes a log.

    Args:
        rank: Number among all processes.
        hydra: Hydra's own config, as `hydra_values` gives it.
        argv: The command line.

    Returns:
        Hydra's own config.
    """
    sys.argv = argv
    setup_globals()
    register()
    config = OmegaConf.create(hydra)
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    if rank == 0:
        configure_log(config.hydra.job_logging, config.hydra.verbose)
    else:
        logging.getLogger().addHandler(logging.NullHandler())
        warnings.simplefilter("ignore")  # rank 0 gives the same ones
    return config


def show_error(rank: int, error: BaseException) -> None:
    """Print an error once: a ConfigError in one line, others with their traceback."""
    if isinstance(error, RuntimeError) and _LOST_PEER.search(str(error)):
        time.sleep(_PATIENCE_WITH_LOSSES_S)
    elif rank:
        time.sleep(_PATIENCE_S)
    if isinstance(error, ConfigError):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return
    text = "".join(traceback.format_exception(error))
    print(f"rank {rank} failed:\n{text}", file=sys.stderr, flush=True)
