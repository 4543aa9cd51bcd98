"""Take part in a run whose processes torchrun or srun has started: one config, one run folder.

Rank 0 leads: it runs the command with Hydra, as a single process does. The others follow: they skip Hydra
and wait at torch's store for the resolved config and Hydra's own, or for a message that there is none.
After a restart by the launcher the leader resumes in the run's folder, from its newest checkpoint.
"""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.config.overrides import quoted
from mambavision_lab.config.resolvers import register
from mambavision_lab.errors import ConfigError, explain
from mambavision_lab.files import configs_folder, write_atomically
from mambavision_lab.launch.command_line import Command
from mambavision_lab.launch.distributed.devices import check_devices, get_max_restarts
from mambavision_lab.launch.distributed.environment import ExternalLaunch
from mambavision_lab.launch.distributed.worker import begin_rank, hydra_values, show_error
from mambavision_lab.runs.folder import adopt_requeue_checkpoints, find_newest_checkpoint

if TYPE_CHECKING:
    from torch.distributed import Store

Task = Callable[[DictConfig], Any]

_START_TIMEOUT_S = 300.0  # for all processes to have started
_PREPARATION_TIMEOUT_S = 6 * 3600.0  # for the data to be there
_EXIT_TIMEOUT_S = 10.0  # for the followers to receive that message

_current: "ExternalRun | None" = None  # of this process; a task is given a config and nothing else


def current() -> "ExternalRun | None":
    """Return the run that this process was launched for, or None where no launcher has started it."""
    return _current


def join(
    command: Command, run: Callable[[Command], None], task: Task, launch: ExternalLaunch
) -> None:
    """Run a command in this process and the others that an external launcher has started.

    Args:
        command: The command line.
        run: Runs a command as a single process does; the leader calls it.
        task: The task itself, which the followers call with the leader's config.
        launch: This process among those of the launcher.

    Raises:
        ConfigError: The command cannot be run; raised on rank 0 alone.
        SystemExit: The run has failed and has printed why.
    """
    global _current
    if command.is_multirun:
        if launch.world_size == 1:
            run(command)
            return
        if launch.rank:
            sys.exit(2)
        raise ConfigError(
            f"-m under {launch.launcher}: each process would run the sweep; start python train.py -m "
            "... itself (it starts the processes of each job), or send the jobs to a cluster with "
            "hydra/launcher=submitit_slurm"
        )
    try:
        _current = ExternalRun(command, launch, _open_store(launch))
        if launch.rank == 0:
            _current.run_as_leader(run)
        else:
            _current.run_as_follower(task)
    except Exception as error:
        show_error(launch.rank, error)
        sys.exit(2 if isinstance(explain(error), ConfigError) else 1)
    finally:
        _current = None


def _open_store(launch: ExternalLaunch) -> "Store":
    """Connect to the store at the main address, which torchrun's agent serves, or else rank 0."""
    from torch.distributed import DistNetworkError, HashStore, PrefixStore, TCPStore

    if launch.world_size == 1:
        return HashStore()
    host, port = launch.main_address, launch.main_port
    is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    is_server = launch.rank == 0 and not is_agents
    try:
        store = TCPStore(
            host,
            port,
            world_size=None,
            is_master=is_server,
            timeout=timedelta(seconds=_START_TIMEOUT_S),
            wait_for_workers=False,
            multi_tenant=True,  # the process group's own store, made later, is then the same server
        )
    except DistNetworkError as error:
        if is_server:
            raise ConfigError(
                f"MASTER_PORT={port}: the port is taken on {host}; choose another with MASTER_PORT=..."
            ) from error
        raise ConfigError(
            f"MASTER_ADDR={host} MASTER_PORT={port}: rank 0 cannot be reached there; start all processes "
            "within five minutes"
        ) from error
    # An agent's store outlives its processes, and holds what those before a restart wrote.
    return PrefixStore(f"mambavision_lab/{launch.num_restarts if is_agents else 0}", store)


class ExternalRun:
    """A run in processes that an external launcher has started, as one of them sees it.

    Args:
        command: The command line.
        launch: This process.
        store: The key-value store that all processes share.
    """

    def __init__(self, command: Command, launch: ExternalLaunch, store: "Store") -> None:
        self.command, self.launch, self.store = command, launch, store
        self._has_broadcast = False
        self.store.add("restarts", launch.num_restarts)
        self.store.add("started", 1)

    def run_as_leader(self, run: Callable[[Command], None]) -> None:
        """Run the command; where it ends before its config was broadcast, the followers end as well."""
        status: int | str | None = 1
        try:
            self._wait_for("started", self.launch.world_size, _START_TIMEOUT_S)
            # Summed, because a node that was lost and came back has not been restarted itself.
            is_restart = self.store.add("restarts", 0) > 0
            if not is_restart:  # torchrun's id is the same for every run that is given none
                _record_path(self.launch).unlink(missing_ok=True)
            run(self._resumed_command() if is_restart else self.command)
            status = 0
        except ConfigError:
            status = 2
            raise
        except SystemExit as stop:
            status = stop.code
            raise
        finally:
            if not self._has_broadcast:
                self._broadcast({"status": status})
                self._wait_for(
                    "received", self.launch.world_size - 1, _EXIT_TIMEOUT_S, is_needed=False
                )

    def run_as_follower(self, task: Task) -> None:
        """Wait for the leader's config and run the task with it."""
        self.store.set_timeout(timedelta(seconds=_PREPARATION_TIMEOUT_S))
        message = pickle.loads(self.store.get("message"))
        self.store.add("received", 1)
        if "status" in message:
            sys.exit(message["status"])
        begin_rank(self.launch.rank, message["hydra"])
        task(OmegaConf.create(message["config"]))

    def run_task(self, task: Task, cfg: DictConfig, prepare: Callable[[], None]) -> Any:
        """Run a task in all processes; the leader broadcasts the config first."""
        if self.launch.rank == 0:
            self._use_launched_processes(cfg)
            prepare()
            self.store_run_folder(cfg)
            config = OmegaConf.to_container(cfg, resolve=True)
            self._broadcast({"config": config, "hydra": hydra_values()})
        elif self.launch.local_rank == 0:
            prepare()  # no work where the nodes share their files
            self.store.set(f"prepared/{self.launch.node_rank}", "yes")
        elif self.launch.node_rank:
            self.store.get(f"prepared/{self.launch.node_rank}")
        return task(cfg)

    def store_run_folder(self, cfg: DictConfig) -> None:
        """Write down the run folder, for a restart of this command by the launcher."""
        path = _record_path(self.launch)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"command": self.command.argv[1:], "folder": str(cfg.paths.output_dir)}
        write_atomically(path, json.dumps(record) + "\n")

    def _resumed_command(self) -> Command:
        """Extend the command so that it continues in its run folder, from the newest checkpoint."""
        path = _record_path(self.launch)
        record = json.loads(path.read_text()) if path.is_file() else {}
        if record.get("command") != list(self.command.argv[1:]):
            return self.command
        if self.command.resume is not None:  # which finds that folder again
            return self.command
        folder = Path(record["folder"])
        adopt_requeue_checkpoints(folder)
        overrides = [f"hydra.run.dir={quoted(folder)}"]
        checkpoint = find_newest_checkpoint(folder)
        if checkpoint is not None:
            overrides.append(f"ckpt_path={quoted(checkpoint)}")
        start = checkpoint or "the beginning"
        print(f"restarted by {self.launch.launcher}: resuming from {start}", flush=True)
        return replace(self.command.with_overrides(*overrides), is_restart=True)

    def _use_launched_processes(self, cfg: DictConfig) -> None:
        """Set the trainer's devices and nodes to those of the launcher."""
        launch, devices = self.launch, str(cfg.trainer.devices)
        if max_restarts := get_max_restarts(cfg):
            hint = (
                "torchrun --max-restarts=N" if launch.launcher == "torchrun" else "sbatch --requeue"
            )
            raise ConfigError(
                f"launcher.max_restarts={max_restarts}: {launch.launcher} has started the processes and "
                f"alone can start them again; use {hint}"
            )
        if devices not in ("auto", "-1", str(launch.local_world_size)):
            raise ConfigError(
                f"trainer.devices={devices}, but {launch.launcher} has started {launch.local_world_size} "
                "processes on each node; choose trainer=ddp, or leave trainer.devices as it is there"
            )
        if cfg.trainer.num_nodes not in (1, launch.num_nodes):
            raise ConfigError(
                f"trainer.num_nodes={cfg.trainer.num_nodes}, but {launch.launcher} has started processes on "
                f"{launch.num_nodes}; give trainer.num_nodes={launch.num_nodes}"
            )
        cfg.trainer.devices, cfg.trainer.num_nodes = launch.local_world_size, launch.num_nodes
        check_devices(cfg)

    def _broadcast(self, message: dict[str, Any]) -> None:
        self._has_broadcast = True
        self.store.set("message", pickle.dumps(message))  # type: ignore[arg-type]

    def _wait_for(self, key: str, count: int, timeout_s: float, is_needed: bool = True) -> None:
        """Wait until a counter has reached a number."""
        deadline = time.monotonic() + timeout_s
        while (reached := self.store.add(key, 0)) < count:
            if time.monotonic() > deadline:
                if not is_needed:
                    return
                raise ConfigError(
                    f"{self.launch.launcher}: {reached} of {count} processes have started within "
                    f"{timeout_s:.0f} s; look at the others"
                )
            time.sleep(0.02)


def _record_path(launch: ExternalLaunch) -> Path:
    """Return the file that holds the folder of a launcher's run."""
    register()
    logs = OmegaConf.load(configs_folder() / "paths" / "default.yaml").log_dir
    return Path(logs) / ".launched" / f"{launch.run_id}.json"
