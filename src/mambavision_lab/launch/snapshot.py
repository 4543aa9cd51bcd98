"""A run's own configuration, kept as a folder of configs from which Hydra can compose again.

`snapshot/<node>/snapshot.yaml` holds each node as it was composed, interpolations and all, so that
`data=cifar100` on top still reaches the model; `as_trained.yaml` beside it holds the same node with
every value filled in, for what must stay as it was.
"""

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.errors import ConfigError

FOLDER = "snapshot"


def write_snapshot(cfg: DictConfig, run_folder: Path) -> None:
    """Write the snapshot of a composed config into a run folder."""
    folder = run_folder / FOLDER
    folder.mkdir(exist_ok=True)
    composed = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))
    resolved = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    nodes = [key for key, value in composed.items() if isinstance(value, dict)]
    for node in nodes:
        (folder / node).mkdir(exist_ok=True)
        _save(composed[node], folder / node / "snapshot.yaml")
        _save(resolved[node], folder / node / "as_trained.yaml")
    # Outside the nodes a value that refers to Hydra's choices would change with them: filled in.
    scalars = {key: value for key, value in resolved.items() if key not in nodes}
    _save(
        {"defaults": [*({n: "snapshot"} for n in nodes), "_self_"], **scalars},
        folder / "snapshot.yaml",
    )
    if "run" not in nodes:  # a training run's own name, for the tasks that follow it
        (folder / "run").mkdir(exist_ok=True)
        _save({"name": resolved["name"]}, folder / "run" / "as_trained.yaml")


def find_snapshot(path: str) -> Path:
    """The snapshot folder of the run that a checkpoint (or any path in the run folder) belongs to.

    Raises:
        ConfigError: There is nothing at path, or no run folder around it.
    """
    start = Path(path).absolute()
    if not start.exists():
        raise ConfigError(
            f"ckpt_path={path}: no such file; give a checkpoint such as "
            "logs/latest/checkpoints/best.ckpt"
        )
    for folder in (start, *start.parents):
        if (folder / FOLDER / "snapshot.yaml").is_file():
            return folder / FOLDER
    raise ConfigError(
        f"ckpt_path={path}: no run folder around it; the checkpoint must lie in its run's folder, "
        f"beside {FOLDER}/"
    )


def _save(content: Any, path: Path) -> None:
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(content)))
