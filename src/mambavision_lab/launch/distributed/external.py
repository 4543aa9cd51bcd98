"""Join the processes that torchrun or srun has started: one config, one run folder, rank 0 leads.

Rank 0 runs Hydra as always. The others skip it and wait, at torch's store, for the resolved config
and Hydra's own; or for the news that rank 0 cannot run what was asked for.
"""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder
from mambavision_lab.launch.distributed.devices import check_devices
from mambavision_lab.launch.distributed.environment import Place, torchrun_environment
from mambavision_lab.launch.distributed.worker import begin_rank, hydra_values, show_error

if TYPE_CHECKING:
    from torch.distributed import Store

Task = Callable[[DictConfig], Any]

_ARRIVAL_S = 300.0  # for all processes to have started
_PREPARATION_S = 6 * 3600.0  # for the data to be there
_FAREWELL_S = 10.0  # for the others to hear why rank 0 ends

_current: "Joined | None" = None


def current() -> "Joined | None":
    """This process as one that was joined, or None where no launcher has started it."""
    return _current


def join(run: Callable[[], None], task: Task, place: Place) -> None:
    """Be one of the processes that an outer launcher has started.

    Args:
        run: What the command does where no launcher is about: rank 0 does it.
        task: The task itself, which the others run with rank 0's config.
        place: This process's place.

    Raises:
        ConfigError: The command cannot be run; raised on rank 0 alone.
        SystemExit: The run has failed and has said why.
    """
    global _current
    if get_args_parser().parse_args().multirun:
        if place.rank:
            sys.exit(2)
        raise ConfigError(
            f"-m under {place.launcher}: each process would run the sweep; start python train.py -m "
            "... itself (it starts the processes of each job), or send the jobs to a cluster with "
            "hydra/launcher=submitit_slurm"
        )
    if place.launcher == "srun":
        os.environ |= torchrun_environment(place)
    _current = Joined(place, _open_store(place))
    try:
        if place.rank == 0:
            _current.lead(run)
        else:
            _current.follow(task)
    except ConfigError as error:
        show_error(place.rank, error)
        sys.exit(2)
    except Exception as error:
        show_error(place.rank, error)
        sys.exit(1)
    finally:
        _current = None


def _open_store(place: Place) -> "Store":
    """The store at MASTER_ADDR:MASTER_PORT, which torchrun's agent serves, or else rank 0."""
    from torch.distributed import DistNetworkError, PrefixStore, TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_server = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = TCPStore(
            host,
            port,
            world_size=None,
            is_master=is_server,
            timeout=timedelta(seconds=_ARRIVAL_S),
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
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if _is_agents() else "0"
    return PrefixStore(f"mambavision_lab/{attempt}", store)


def _is_agents() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


class Joined:
    """One of the processes that were joined.

    Args:
        place: Its place.
        store: What all of them read and write.
    """

    def __init__(self, place: Place, store: "Store") -> None:
        self.place, self.store = place, store
        self._command = sys.argv[1:]
        self._has_told = False
        self.store.add("restarts", int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))
        self.store.add("arrived", 1)

    def lead(self, run: Callable[[], None]) -> None:
        """Run the command; whatever ends it before the config is known ends the others, too."""
        status: int | str | None = 1
        try:
            self._wait_for("arrived", self.place.world_size, _ARRIVAL_S)
            if self.store.add("restarts", 0):
                self._go_on()
            run()
            status = 0
        except ConfigError:
            status = 2
            raise
        except SystemExit as stop:
            status = stop.code
            raise
        finally:
            if not self._has_told:
                self._tell({"status": status})
                self._wait_for("heard", self.place.world_size - 1, _FAREWELL_S, is_needed=False)

    def follow(self, task: Task) -> None:
        """Wait for rank 0's config and run the task with it."""
        self.store.set_timeout(timedelta(seconds=_PREPARATION_S))
        message = pickle.loads(self.store.get("message"))
        self.store.add("heard", 1)
        if "status" in message:
            sys.exit(message["status"])
        begin_rank(self.place.rank, message["hydra"], message["argv"])
        task(OmegaConf.create(message["config"]))

    def run(self, task: Task, cfg: DictConfig, prepare: Callable[[], None]) -> Any:
        """Run a task in this process and the others; rank 0 sends them the config first."""
        if self.place.rank == 0:
            self._fit(cfg)
            prepare()
            self._record(cfg)
            config = OmegaConf.to_container(cfg, resolve=True)
            self._tell({"config": config, "hydra": hydra_values(), "argv": sys.argv})
        else:
            node = self.place.rank // self.place.local_world_size
            if self.place.local_rank == 0:
                prepare()  # no work where the nodes share their files
                self.store.set(f"prepared/{node}", "yes")
            elif node:
                self.store.get(f"prepared/{node}")
        return task(cfg)

    def _fit(self, cfg: DictConfig) -> None:
        """Let the trainer have the processes that the launcher has started."""
        place, devices = self.place, str(cfg.trainer.devices)
        if cfg.trainer.get("max_restarts"):
            raise ConfigError(
                f"trainer.max_restarts={cfg.trainer.max_restarts}: {place.launcher} has started the "
                "processes and alone can start them again; use torchrun --max-restarts=N"
            )
        if devices not in ("auto", "-1", str(place.local_world_size)):
            raise ConfigError(
                f"trainer.devices={devices}, but {place.launcher} has started {place.local_world_size} "
                "processes on each node; choose trainer=ddp, or leave trainer.devices as it is there"
            )
        if cfg.trainer.num_nodes not in (1, place.num_nodes):
            raise ConfigError(
                f"trainer.num_nodes={cfg.trainer.num_nodes}, but {place.launcher} has started processes on "
                f"{place.num_nodes}; give trainer.num_nodes={place.num_nodes}"
            )
        cfg.trainer.devices, cfg.trainer.num_nodes = place.local_world_size, place.num_nodes
        check_devices(cfg)

    def _tell(self, message: dict[str, Any]) -> None:
        self._has_told = True
        self.store.set("message", pickle.dumps(message))  # type: ignore[arg-type]

    def _wait_for(self, key: str, count: int, timeout_s: float, is_needed: bool = True) -> None:
        """Wait until a counter has reached a number."""
        until = time.monotonic() + timeout_s
        while (reached := self.store.add(key, 0)) < count:
            if time.monotonic() > until:
                if not is_needed:
                    return
                raise ConfigError(
                    f"{self.place.launcher}: {reached} of {count} processes have started within "
                    f"{timeout_s:.0f} s; look at the others"
                )
            time.sleep(0.02)

    def _record(self, cfg: DictConfig) -> None:
        """Note the run folder for a restart of this command by the launcher."""
        path = _record_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"command": self._command, "folder": str(cfg.paths.output_dir)}
        path.write_text(json.dumps(facts) + "\n")

    def _go_on(self) -> None:
        """After a restart by the launcher: continue in the run's folder, from its last checkpoint."""
        path = _record_path()
        record = json.loads(path.read_text()) if path.is_file() else {}
        if record.get("command") != self._command:
            return
        folder = Path(record["folder"])
        last = folder / "checkpoints" / "last.ckpt"
        sys.argv.append(f"hydra.run.dir='{folder}'")
        if last.is_file():
            sys.argv.append(f"ckpt_path='{last}'")
        start = last if last.is_file() else "the beginning"
        print(f"started again by {self.place.launcher}: from {start}", flush=True)


def _record_path() -> Path:
    """Where a launcher's run of this name keeps its folder."""
    logs = OmegaConf.load(configs_folder() / "paths" / "default.yaml").log_dir
    return Path(logs) / ".launched" / f"{os.environ['TORCHELASTIC_RUN_ID']}.json"
