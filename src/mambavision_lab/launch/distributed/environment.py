"""Find the launcher that has started this process, and the rank that it gave it.

Lightning's cluster environments read a launcher's variables. They import torch, so a cheap look at the
variables comes first: a command that no launcher has started (`--help`, a wrong option) stays fast.
"""

import os
from dataclasses import dataclass

from mambavision_lab.errors import ConfigError

_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs that are a shell


@dataclass(frozen=True)
class ExternalLaunch:
    """One process of those that torchrun or srun has started.

    Attributes:
        launcher: "torchrun" or "srun".
        run_id: The same in all these processes, and after the launcher has restarted them.
        num_restarts: Number of restarts so far.
        rank: Rank among all processes.
        world_size: Number of all processes.
        local_rank: Rank on this node.
        local_world_size: Number of processes on each node.
        node_rank: Rank of this node.
        main_address: Host of rank 0.
        main_port: Port on that host.
    """

    launcher: str
    run_id: str
    num_restarts: int
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node_rank: int
    main_address: str
    main_port: int

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.world_size // self.local_world_size


def find_launch() -> ExternalLaunch | None:
    """Read the variables that torchrun or srun has set; None where neither has started this process.

    Under srun it also sets what Lightning takes from the environment and SLURM does not provide.

    Raises:
        ConfigError: The nodes have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _find_torchrun()
    return _find_srun() if _is_srun_task() else None


def is_rank_zero() -> bool:
    """Return whether this process is rank 0, or the only one."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def is_slurm_job() -> bool:
    """Return whether this is a job of SLURM's in which Lightning handles the requeue signal."""
    return "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE


def _find_torchrun() -> ExternalLaunch:
    from lightning.fabric.plugins.environments import TorchElasticEnvironment

    environment = TorchElasticEnvironment()
    world_size = environment.world_size()
    local_world_size = int(os.environ["LOCAL_WORLD_SIZE"])
    _check_even("torchrun", world_size, world_size % local_world_size)
    return ExternalLaunch(
        launcher="torchrun",
        run_id=os.environ["TORCHELASTIC_RUN_ID"],
        num_restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
        rank=environment.global_rank(),
        world_size=world_size,
        local_rank=environment.local_rank(),
        local_world_size=local_world_size,
        node_rank=environment.node_rank(),
        main_address=environment.main_address,
        main_port=environment.main_port,
    )


def _is_srun_task() -> bool:
    """Return whether srun has started this process: a batch script's own commands have no step."""
    wanted = {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_STEP_ID"}
    return wanted <= set(os.environ) and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE


def _find_srun() -> ExternalLaunch:
    from lightning.fabric.plugins.environments import SLURMEnvironment

    num_tasks, step = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_STEP_ID"])
    num_nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", 1)))
    _check_even("srun", num_tasks, num_tasks % num_nodes)
    local_world_size = num_tasks // num_nodes
    # Lightning refuses several tasks without this, which SLURM sets for --ntasks-per-node alone.
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(local_world_size))
    environment = SLURMEnvironment()
    # Lightning knows the job's nodes and a port of the job; a step may have fewer nodes, and other steps
    # of the job run beside it.
    if "SLURM_STEP_NODELIST" in os.environ:
        first_node = environment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
        os.environ.setdefault("MASTER_ADDR", first_node)
    if "MASTER_PORT" not in os.environ:
        os.environ["MASTER_PORT"] = str(environment.main_port + step % 1000)
    return ExternalLaunch(
        launcher="srun",
        run_id=f"slurm-{os.environ.get('SLURM_JOB_ID', '0')}-{step}",
        num_restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        rank=environment.global_rank(),
        world_size=num_tasks,
        local_rank=environment.local_rank(),
        local_world_size=local_world_size,
        node_rank=environment.node_rank(),
        main_address=environment.main_address,
        main_port=environment.main_port,
    )


def _check_even(launcher: str, world_size: int, remainder: int) -> None:
    if remainder:
        raise ConfigError(
            f"{launcher}: {world_size} processes are not divided evenly among the nodes; give every node "
            "the same number"
        )
