"""Run a task in all processes of a run, from one composed config.

Processes that torchrun or srun has started are used as they are (`external.py`); otherwise this machine's
are started here (`local.py`).
"""

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.distributed import external
from mambavision_lab.launch.distributed.devices import (
    check_devices,
    get_max_restarts,
    num_local_processes,
)
from mambavision_lab.launch.distributed.local import run_in_processes

Task = Callable[[DictConfig], Any]


def run_together(task: Task, cfg: DictConfig, prepare: Callable[[], None]) -> Any:
    """Run a task in as many processes as the trainer has devices; returns rank 0's result.

    Args:
        task: A module-level function of the config.
        cfg: The composed config.
        prepare: Called once on each node before the task, to get the data.

    Raises:
        ConfigError: There are not as many devices, or they need a launcher that was not used.
        SystemExit: A worker failed; it has printed why.
    """
    external_run = external.current()
    if external_run is not None and external_run.launch.world_size > 1:
        return external_run.run_task(task, cfg, prepare)
    if cfg.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}: several nodes need a launcher on each; use srun "
            "python train.py ..., or on every node torchrun --nnodes=N --nproc-per-node=M "
            "--rdzv-backend=c10d --rdzv-endpoint=HOST:PORT train.py ..."
        )
    check_devices(cfg)
    if external_run is not None:
        external_run.store_run_folder(cfg)
    num_processes, max_restarts = num_local_processes(cfg), get_max_restarts(cfg)
    if num_processes <= 1 and not max_restarts:
        return task(cfg)
    prepare()  # before the workers look for the files
    return run_in_processes(task, cfg, num_processes, max_restarts)
