"""What eval.py tests: the network of a checkpoint, or an exported file in its own runtime."""

from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, open_dict, read_write

from mambavision_lab.config.overrides import given_overrides, key_of
from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.preparation import SETTINGS, SETTINGS_OF_SOME
from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.runtimes.network import load_network
from mambavision_lab.lit.callbacks.ema import kind_of_weights
from mambavision_lab.lit.training_module import TrainingModule
from mambavision_lab.models.saved import load_checkpoint, load_weights
from mambavision_lab.runs.folder import short_path
from mambavision_lab.tasks.build import build_classifier, build_net, wrap_described


class Evaluated(Protocol):
    """A trained network.

    Attributes:
        path: The file that it is in.
        trained: What is known of the data that it was trained on, `class_names` among it.
        place: Epoch and step of its training, where they are known.
        words: The file, and which weights those are.
    """

    path: Path
    trained: dict[str, Any]
    place: dict[str, int]
    words: str

    def make_classifier(self, cfg: DictConfig, data: ImageDataModule) -> TrainingModule:
        """Make the module to test on images of `data`."""
        ...


class CheckpointNetwork:
    """The network of `ckpt_path`."""

    def __init__(self, cfg: DictConfig) -> None:
        self.path = Path(cfg.ckpt_path)
        self._checkpoint = load_checkpoint(self.path)
        self.trained = self._checkpoint["hyper_parameters"]["data"]
        epoch, step = self._checkpoint["epoch"] + 1, self._checkpoint["global_step"]
        self.place = {"epoch": epoch, "step": step}
        kind = kind_of_weights(self._checkpoint)
        self.words = f"{short_path(self.path)}, epoch {epoch}, step {step}"
        self.words += f", {kind} weights" if kind else ""

    def make_classifier(self, cfg: DictConfig, data: ImageDataModule) -> TrainingModule:
        """Make the module that was trained, with its weights."""
        classifier = build_classifier(cfg, build_net(cfg), self.trained)
        load_weights(classifier, self._checkpoint, cfg.ckpt_path)
        return classifier


class ExportedNetwork:
    """The exported file of `model_file`; the data are prepared as it says, unless the command says otherwise.

    Raises:
        ConfigError: It cannot be loaded, or lacks class names.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.path = Path(cfg.model_file)
        given = {key_of(override) for override in given_overrides()}
        description, self._net, _ = load_network(self.path, "cpu")
        if not description.get("class_names"):
            raise ConfigError(f"model_file={self.path}: has no class names; export it anew")
        self.trained = {**description["preprocessing"], **description}
        self.place: dict[str, int] = {}
        self.words = short_path(self.path)
        with read_write(cfg), open_dict(cfg.data):
            for name in (*SETTINGS, *SETTINGS_OF_SOME):
                is_free = name in cfg.data and f"data.{name}" not in given
                if is_free and self.trained.get(name) is not None:
                    cfg.data[name] = self.trained[name]

    def make_classifier(self, cfg: DictConfig, data: ImageDataModule) -> TrainingModule:
        """Wrap the file's runtime; its settings are those of the evaluation alone."""
        return wrap_described(self._net, self.trained)
