"""Hand Hydra's sweeps to `launch/sweeps`; Hydra finds sweepers only in `hydra_plugins`."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from mambavision_lab.launch.sweeps.sweep import open_sweep, run_sweep


class LabSweeper(Sweeper):
    """Run the jobs of the search that the config's `sweep` group names."""

    def __init__(self) -> None:
        self.context: HydraContext
        self.task: TaskFunction
        self.config: DictConfig

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over before `sweep`."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs of the command line's overrides, in which sweeps are not expanded yet."""
        sweep = open_sweep(self.config, self.context.config_loader)
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.config
        )
        return run_sweep(sweep, launcher)
