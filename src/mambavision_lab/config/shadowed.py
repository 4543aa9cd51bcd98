"""Refuse or announce configs of the user's that have the name of one of the package's."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder


def check_shadowed(cfg: DictConfig) -> None:
    """Compare the folders that a config was composed from, in the order in which they are searched.

    A file of the user's that is found first replaces the package's, which is printed in one line.

    Raises:
        ConfigError: One lies behind the package's, and would never be read.
    """
    ours = configs_folder().resolve()
    names = [path.relative_to(ours) for path in ours.rglob("*.yaml")]
    is_behind = False
    for source in cfg.hydra.runtime.config_sources:
        folder = Path(source.path).resolve()
        if folder == ours:
            is_behind = True
        elif source.schema == "file":
            same = sorted(str(name) for name in names if (folder / name).is_file())
            if same and is_behind:
                raise ConfigError(
                    f"{folder / same[0]}: would not be read, as the package has a config of that name; "
                    "rename it"
                )
            if same:
                listed = ", ".join(same[:3]) + (" ..." if len(same) > 3 else "")
                print(
                    f"warning: {folder}: used in place of the package's: {listed}", file=sys.stderr
                )
