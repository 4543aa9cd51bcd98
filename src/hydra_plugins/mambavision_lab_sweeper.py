"""Hydra takes a sweeper only from a class that is defined in `hydra_plugins`."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from mambavision_lab.launch.sweeps.sweep import open_sweep, run_sweep


class LabSweeper(Sweeper):
    """Runs the jobs that the `sweep` group of the config asks for; see `launch/sweep.py`."""

    def __init__(self) -> None:
        self.context: HydraContext
        self.task: TaskFunction
        self.config: DictConfig

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `sweep`."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs; `arguments` are the overrides of the command line, sweeps unexpanded."""
        sweep = open_sweep(self.config, arguments, self.context.config_loader)
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )
        return run_sweep(sweep, launcher)
