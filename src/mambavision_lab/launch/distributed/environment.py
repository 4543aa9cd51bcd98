"""What a launcher outside (torchrun or srun) says of this process, read from the environment alone."""

import os
import re
from dataclasses import dataclass

from mambavision_lab.errors import ConfigError

_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs that are a shell


@dataclass(frozen=True)
class Place:
    """This process among those of one run.

    Args:
        launcher: "torchrun" or "srun".
        rank: Number among all processes.
        world_size: Number of all processes.
        local_rank: Number on this node.
        local_world_size: Number of processes on each node.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.world_size // self.local_world_size


def find_place() -> Place | None:
    """This process's place, or None where no launcher has started several of it.

    Raises:
        ConfigError: The nodes have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        place = Place("torchrun", *(int(os.environ[name]) for name in names))
    elif _is_srun_task():
        num_nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", 1)))
        num_tasks = int(os.environ["SLURM_NTASKS"])
        rank, local_rank = (int(os.environ[name]) for name in ("SLURM_PROCID", "SLURM_LOCALID"))
        place = Place("srun", rank, num_tasks, local_rank, max(1, num_tasks // num_nodes))
    else:
        return None
    if place.world_size % place.local_world_size:
        raise ConfigError(
            f"{place.launcher}: {place.world_size} processes with {place.local_world_size} on this "
            "node; give every node the same number"
        )
    return place if place.world_size > 1 else None


def _is_srun_task() -> bool:
    """Whether srun has started this: a batch script's own commands have no step."""
    wanted = {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_STEP_ID"}
    return wanted <= set(os.environ) and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE


def torchrun_environment(place: Place) -> dict[str, str]:
    """What torchrun would have put into the environment of a process that srun has started."""
    job = int(os.environ.get("SLURM_JOB_ID", 0)) + int(os.environ["SLURM_STEP_ID"])
    nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_NODELIST", "127.0.0.1"))
    return {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.world_size),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "GROUP_RANK": str(place.rank // place.local_world_size),
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", first_node(nodes)),
        # From the job's number: all its processes agree, and two jobs on one node differ.
        "MASTER_PORT": os.environ.get("MASTER_PORT", str(15000 + job % 10000)),
        "TORCHELASTIC_RUN_ID": f"slurm-{job}",
        "TORCHELASTIC_RESTART_COUNT": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def first_node(nodes: str) -> str:
    """First name of a SLURM list of nodes: `gpu[07-09,12],login` -> `gpu07`."""
    found = re.match(r"([^,\[]+)(?:\[([^-,\]]+))?", nodes)
    return found[1] + (found[2] or "") if found else nodes
