"""Check the folders of a command: that of the run can be written, and relative ones stay where they are."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from mambavision_lab.errors import ConfigError

_NAMES_A_PATH = re.compile(r"(root|dir|dirpath|path|folder|images|output|pretrained)$")


def check_folders(cfg: dict[Any, Any]) -> None:
    """Check the folders that are written, and with `hydra.job.chdir=true` every path in plain values.

    Raises:
        ConfigError: A folder cannot be made, or a path would mean another place.
    """
    if not HydraConfig.initialized():
        return
    hydra = HydraConfig.get()
    for key in ("run", "sweep"):
        folder = Path(getattr(hydra, key).dir).absolute()
        advice = "choose another folder with paths.log_dir=FOLDER"
        _check_writable(f"hydra.{key}.dir={folder}", folder, advice)
    if output := cfg.get("output"):
        folder = Path(output).absolute().parent
        _check_writable(f"output={output}", folder, "choose another place")
    if hydra.job.chdir:
        for path, value in _paths(cfg):
            if not Path(value).is_absolute() and (
                path.startswith("paths.") or Path(value).exists()
            ):
                raise ConfigError(
                    f"{path}={value}: hydra.job.chdir=true changes the folder that it starts from; give "
                    "the whole path, or leave hydra.job.chdir=false"
                )


def _check_writable(given: str, folder: Path, advice: str) -> None:
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        Path(
            tempfile.mkdtemp(dir=nearest)
        ).rmdir()  # what is allowed and what succeeds are two things
    except OSError as error:
        why = f"cannot be written ({error.strerror})" if nearest.is_dir() else "is not a folder"
        raise ConfigError(f"{given}: {nearest} {why}; {advice}") from error


def _paths(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys and values that name files or folders."""
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in items:
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, str) and _NAMES_A_PATH.search(str(key)):
            yield where, value
        else:
            yield from _paths(value, where)
