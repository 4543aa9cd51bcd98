"""Set up a process that did not compose its config, and show its errors."""

import logging
import re
import sys
import time
import traceback
import warnings
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import OmegaConf

from mambavision_lab.config.resolvers import register
from mambavision_lab.errors import explain, reason

log = logging.getLogger(__name__)

# Errors caused by the loss of another process: its own error, or the launcher, states the reason.
_LOST_PEER = re.compile(
    r"connection (closed|reset|refused|was)|broken pipe|gloo|nccl|peer|socket|recvvalue",
    re.IGNORECASE,
)
# Waits during which the launcher ends this process if another has failed: an error of all ranks is then
# printed by rank 0 alone, and one caused by a lost process not at all.
_OTHER_RANK_WAIT_S = 3.0
_LOST_PEER_WAIT_S = 5.0


def hydra_values() -> dict[str, Any]:
    """Return Hydra's own config as plain values, which can be sent; classes of plugins cannot."""
    config = HydraConfig.instance().cfg
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))


def begin_rank(rank: int, hydra: dict[str, Any]) -> None:
    """Make this process like the one that has composed the config; only rank 0 writes a log.

    Args:
        rank: Rank among all processes.
        hydra: Hydra's own config, from `hydra_values`.
    """
    # From the plain values, because a config would interpolate a ${...} that was typed.
    if command := hydra["hydra"]["runtime"].get("command"):
        sys.argv = [*command]  # libraries such as W&B record it
    setup_globals()
    register()
    config = OmegaConf.create(hydra)
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    if rank == 0:
        configure_log(config.hydra.job_logging, config.hydra.verbose)
    else:
        logging.getLogger().addHandler(logging.NullHandler())
        warnings.simplefilter("ignore")  # rank 0 shows the same ones


def show_error(rank: int, error: BaseException) -> None:
    """Print an error once: in one line where it can be explained, with its traceback otherwise."""
    if isinstance(error, RuntimeError) and _LOST_PEER.search(str(error)):
        time.sleep(_LOST_PEER_WAIT_S)
    elif rank:
        time.sleep(_OTHER_RANK_WAIT_S)
    known = explain(error)
    if known is not None:
        log.info("the run failed", exc_info=error)
        print(f"error: {reason(known, max_length=None)}", file=sys.stderr, flush=True)
        return
    text = "".join(traceback.format_exception(error))
    print(f"rank {rank} failed:\n{text}", file=sys.stderr, flush=True)
