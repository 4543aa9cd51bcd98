"""Run a task in all the processes of a run, from one composed config.

Processes that torchrun or srun has started are joined (`external.py`); otherwise this machine's are
started here (`local.py`).
"""

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.distributed import external
from mambavision_lab.launch.distributed.devices import check_devices, num_local_processes
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
    max_restarts = cfg.trainer.get("max_restarts") or 0  # not in old snapshots
    joined = external.current()
    if joined is not None:
        return joined.run(task, cfg, prepare)
    if cfg.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}: several nodes need a launcher on each; use srun "
            "python train.py ..., or on every node torchrun --nnodes=N --nproc-per-node=M "
            "--rdzv-backend=c10d --rdzv-endpoint=HOST:PORT train.py ..."
        )
    check_devices(cfg)
    num_processes = num_local_processes(cfg)
    if num_processes <= 1 and not max_restarts:
        return task(cfg)
    prepare()  # before the workers look for the files
    return run_in_processes(task, cfg, num_processes, max_restarts)
