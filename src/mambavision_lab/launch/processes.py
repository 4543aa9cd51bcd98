"""Run a task in several local processes, started from one composed config.

Lightning's own launcher runs the command line again in each process, which composes a second config
and, in a sweep, a second sweep. Here torch's elastic launcher starts the workers; they receive the
config that was composed once, and Lightning finds the environment that torchrun would have made.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError

Task = Callable[[DictConfig], Any]


def num_local_processes(cfg: DictConfig) -> int:
    """How many processes this command must start: one per device, unless a launcher started it."""
    if any(name in os.environ for name in ("TORCHELASTIC_RUN_ID", "LOCAL_RANK", "SLURM_PROCID")):
        return 1
    devices = cfg.trainer.devices
    if str(devices) in ("auto", "-1"):
        import torch

        return max(1, torch.cuda.device_count()) if cfg.trainer.accelerator != "cpu" else 1
    if isinstance(devices, str) and not devices.isdigit():
        devices = [device for device in devices.split(",") if device]
    return int(devices) if isinstance(devices, int | str) else len(devices)


def run_in_processes(task: Task, cfg: DictConfig, num_processes: int) -> Any:
    """Run a task in worker processes that form one process group; returns rank 0's result.

    Args:
        task: A module-level function of the config.
        cfg: The composed config.
        num_processes: Number of workers.

    Raises:
        SystemExit: A worker failed; it has printed why.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # A server that has the slow imports done forks workers in a fraction of a second.
    multiprocessing.set_forkserver_preload(["torch", "lightning.pytorch"])
    # Shared cores: without a limit every worker takes all of them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        start_method="forkserver",
        max_restarts=0,
    )
    try:
        results = elastic_launch(config, _work)(task, cfg, HydraConfig.instance().cfg, sys.argv)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        sys.exit(2 if failure.exitcode == 2 else 1)
    return results[0]


def _work(task: Task, cfg: DictConfig, hydra_cfg: DictConfig, argv: list[str]) -> Any:
    from mambavision_lab.launch.entry import prepare, refuse

    sys.argv = argv
    setup_globals()
    prepare()
    HydraConfig.instance().set_config(hydra_cfg)
    rank = int(os.environ["RANK"])
    if rank == 0:
        configure_log(hydra_cfg.hydra.job_logging, hydra_cfg.hydra.verbose)
    try:
        return task(cfg)
    except ConfigError as error:
        if rank == 0:
            refuse(error)
        sys.exit(2)
    except Exception:  # told here: the parent only learns that a worker has ended
        print(f"rank {rank} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        sys.exit(1)
