"""Run a task in worker processes of this machine, from one composed config.

Lightning's own launcher runs the command line again in each process, which composes a second config
and, in a sweep, starts a second sweep. Here torch's elastic launcher starts the workers; they receive the
config that was composed once, and Lightning finds the environment that torchrun would have made.
"""

import atexit
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.errors import ConfigError, ReportedError, error_text, explain
from mambavision_lab.files import write_atomically
from mambavision_lab.launch.distributed.signals import Stopped, handle_signals, signals
from mambavision_lab.launch.distributed.worker import begin_rank, hydra_values, show_error
from mambavision_lab.runs.folder import find_newest_checkpoint

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

Task = Callable[[DictConfig], Any]

_STOP_TIMEOUT_S = 5  # for workers to exit by themselves before they are killed, unless told


def run_in_processes(task: Task, cfg: DictConfig, num_processes: int, max_restarts: int = 0) -> Any:
    """Run a task in worker processes that form one process group; returns rank 0's result.

    Args:
        task: A module-level function of the config.
        cfg: The composed config.
        num_processes: Number of workers.
        max_restarts: How often to start the workers again when one has failed.

    Raises:
        ConfigError: This system cannot start workers.
        ReportedError: A worker failed and has printed why.
        Stopped: A signal stopped the run.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices}: several processes, and restarts, need Linux or macOS; "
            "choose trainer.devices=1 and launcher.max_restarts=0"
        )
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # A server that has already done the slow imports forks workers in a fraction of a second.
    multiprocessing.set_forkserver_preload(["lightning.pytorch", task.__module__])
    atexit.unregister(_end_server)  # once is enough
    atexit.register(_end_server)
    # Workers inherit the name of this process's start method and must know it: joblib's is its own.
    start_method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("forkserver", force=True)
    # A store shared between restarts would keep addresses of processes that are gone.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        start_method="forkserver",
        max_restarts=max_restarts,
        shutdown_timeout=OmegaConf.select(cfg, "launcher.stop_timeout_s") or _STOP_TIMEOUT_S,
        signals_to_handle=",".join(["SIGHUP", "SIGQUIT", *(number.name for number in signals())]),
    )
    _silence_torch()
    handlers = {number: signal.getsignal(number) for number in signals()}
    try:
        with tempfile.TemporaryDirectory(prefix="mambavision-") as notes:
            try:
                results = elastic_launch(config, _work)(task, cfg, hydra_values(), notes)
            except ChildFailedError as error:
                rank, first = error.get_first_failure()
                raise _reported(rank, first, [*error.failures.values()], Path(notes)) from None
    except SignalException as stop:  # an Exception, which Hydra would swallow
        raise Stopped(stop.sigval) from None
    finally:
        multiprocessing.set_start_method(start_method, force=True)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return results[0]


def _reported(
    rank: int, first: "ProcessFailure", failures: "list[ProcessFailure]", notes: Path
) -> ReportedError:
    """Return what ends the run when workers have failed, with the reason that one of them has noted."""
    status = 2 if any(failure.exitcode == 2 for failure in failures) else 1
    if first.exitcode < 0 and status == 1:
        name = signal.Signals(-first.exitcode).name
        reason = f"rank {rank} was killed by {name}"
        if name == "SIGKILL":  # as Linux does where memory is short
            reason += "; if memory was short, lower data.batch_size or data.num_workers"
        print(f"error: {reason}", file=sys.stderr)
        return ReportedError(status, reason)
    if noted := sorted(notes.iterdir(), key=lambda path: path.stat().st_mtime):
        return ReportedError(status, noted[-1].read_text())
    return ReportedError(status, f"rank {rank} ended with status {first.exitcode}")


def _work(task: Task, cfg: DictConfig, hydra: dict[str, Any], notes: str) -> Any:
    """Run the task as one of the worker processes; notes is a folder that outlives a restart."""
    _end_with_parent()
    handle_signals()
    rank, restart = (int(os.environ[name]) for name in ("RANK", "TORCHELASTIC_RESTART_COUNT"))
    begin_rank(rank, hydra)
    _share_cores(int(os.environ["LOCAL_WORLD_SIZE"]))
    refused = Path(notes, "refused")
    if restart:
        if refused.exists():  # it would be refused again
            sys.exit(2)
        _resume(cfg, rank, restart)
    try:
        return task(cfg)
    except Exception as error:
        is_refusal = isinstance(explain(error), ConfigError)
        if is_refusal:
            write_atomically(refused, error_text(error))
        show_error(rank, error)
        if not is_refusal:
            write_atomically(Path(notes, f"failed-{restart}"), error_text(error))
        sys.exit(2 if is_refusal else 1)


def _resume(cfg: DictConfig, rank: int, restart: int) -> None:
    """Let a restarted run start from its own newest checkpoint, or from the beginning."""
    checkpoint = find_newest_checkpoint(Path(cfg.paths.output_dir))
    if checkpoint is not None:
        cfg.ckpt_path = str(checkpoint)
    if rank == 0:
        start = cfg.ckpt_path or "the beginning"
        limit = os.environ["TORCHELASTIC_MAX_RESTARTS"]
        print(f"a process was lost: restart {restart} of {limit}, from {start}", flush=True)


def _share_cores(num_processes: int) -> None:
    """Give each process its share of the cores; without a limit each would use all of them.

    torchrun and Lightning's own launchers do so as well, but neither torch's elastic launcher nor Lightning
    in processes that another launcher has started.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    torch.set_num_threads(max(1, cores // num_processes))


def _end_with_parent() -> None:
    """Let Linux kill this process when its parent is gone, however that ended."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _end_server() -> None:
    """Kill the server that forks workers: with its imports it would take seconds to exit by itself."""
    from multiprocessing import forkserver

    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _silence_torch() -> None:
    """Silence the elastic launcher's reports: workers print what went wrong."""
    for library in ("torch.distributed", "torch.multiprocessing"):
        for name in (library, *logging.root.manager.loggerDict):
            if name.startswith(library):  # some set a level of their own
                logging.getLogger(name).setLevel(logging.CRITICAL)
