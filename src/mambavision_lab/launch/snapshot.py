"""A run's own configuration, kept as a folder of configs from which Hydra can compose again.

`snapshot/<node>/snapshot.yaml` holds each node as it was composed, interpolations and all, so that
`data=cifar100` on top still reaches the model; `as_trained.yaml` beside it holds the same node with
every value filled in, for what must stay as it was.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mambavision_lab.errors import ConfigError

FOLDER = "snapshot"


def write_snapshot(cfg: DictConfig, run_folder: Path) -> None:
    """Write the snapshot of a composed config into a run folder."""
    folder = run_folder / FOLDER
    folder.mkdir(exist_ok=True)
    scalars, nodes = {}, []
    for key in cfg:
        node = cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            nodes.append(str(key))
            (folder / str(key)).mkdir(exist_ok=True)
            _save(OmegaConf.to_container(node, resolve=False), folder / str(key) / "snapshot.yaml")
            _save(OmegaConf.to_container(node, resolve=True), folder / str(key) / "as_trained.yaml")
        else:
            scalars[str(key)] = cfg[key]
    (folder / "run").mkdir(exist_ok=True)
    _save(
        {key: value for key, value in scalars.items() if key == "name"},
        folder / "run" / "as_trained.yaml",
    )
    defaults = [*({node: "snapshot"} for node in nodes), "_self_"]
    _save({"defaults": defaults, **scalars}, folder / "snapshot.yaml")


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
