"""Share a machine's devices among jobs that run side by side: each takes some that no other has.

A process holds what it has taken until it ends, because CUDA cannot change its devices once it has started.
The locks are files on this machine, so that two sweeps share the devices as well, and a process that is
killed frees its own.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import IO

from mambavision_lab.errors import ConfigError

_held: dict[str, IO[str]] = {}  # this process's devices and their locks, which close when it ends


def take_devices(num_wanted: int) -> list[str]:
    """Give this process, and those that it starts, GPUs of its own, or cores where there are no GPUs.

    Args:
        num_wanted: How many devices.

    Returns:
        Their names as in CUDA_VISIBLE_DEVICES, or the numbers of the cores.

    Raises:
        ConfigError: Not enough devices are free, or this is not Linux.
    """
    if sys.platform != "linux":
        raise ConfigError(
            "sweep.devices_per_job: needs Linux; leave it out, and run one job at a time"
        )
    import fcntl

    if _held:
        return [*_held]
    gpus = _list_gpus()
    kind = "GPUs" if gpus else "cores"
    devices = gpus or [str(core) for core in sorted(os.sched_getaffinity(0))]
    folder = Path(tempfile.gettempdir()) / f"mambavision-lab-devices-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    taken: dict[str, IO[str]] = {}
    with (folder / "all.lock").open("w") as everything:
        fcntl.flock(everything, fcntl.LOCK_EX)  # or two jobs could each hold half of what they need
        for device in devices:
            if len(taken) == num_wanted:
                break
            lock: IO[str] = (folder / f"{kind}-{device}.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken[device] = lock
            except BlockingIOError:
                lock.close()
    if len(taken) < num_wanted:
        for lock in taken.values():
            lock.close()
        if num_wanted > len(devices):
            raise ConfigError(
                f"sweep.devices_per_job={num_wanted}: {len(devices)} {kind} are here; give at most as many"
            )
        raise ConfigError(
            f"sweep.devices_per_job={num_wanted}: {len(taken)} of the {len(devices)} {kind} here are free; "
            "run fewer jobs side by side, such as hydra.launcher.n_jobs=1, or give each fewer"
        )
    _held.update(taken)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    else:
        os.sched_setaffinity(0, {int(name) for name in taken})
    return [*taken]


def _list_gpus() -> list[str]:
    """List the GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch  # not before it is needed: a sweep that shares no devices starts without it

    return [str(number) for number in range(torch.cuda.device_count())]
