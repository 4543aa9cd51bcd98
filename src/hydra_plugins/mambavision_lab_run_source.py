"""Hydra's access to the snapshot in a run folder: `run:///<folder>/snapshot`."""

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from mambavision_lab.config.renames import MOVED_FROM, upgrade_snapshot


class RunSource(FileConfigSource):
    """A folder of configs that an earlier version may have written."""

    @staticmethod
    def scheme() -> str:
        """Name the scheme of its URIs."""
        return "run"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file and bring it to today's names."""
        result = super().load_config(config_path)
        content = OmegaConf.to_container(result.config)
        files = {name: Path(self.path) / name / "snapshot.yaml" for name in MOVED_FROM}
        others: Any = {
            name: OmegaConf.to_container(OmegaConf.load(file))
            for name, file in files.items()
            if file.is_file()
        }
        group = config_path.rpartition("/")[0].strip("/")
        result.config = OmegaConf.create(upgrade_snapshot(group, content, others))
        return result
