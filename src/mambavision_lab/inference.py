"""Use a trained network on images of any kind: `MambaVisionInference("logs/latest").predict("cat.jpg")`.

Everything needed comes out of the checkpoint: the network's settings, its weights, and how its
training images were sized, coloured and normalised. `save_pretrained` writes the same as a folder of
model.safetensors and config.json, which needs no run around it and can be shared on the hub.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.decode import decode, squash
from mambavision_lab.data.image_files import evaluation_transform
from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.safetensors import (
    CONFIG,
    WEIGHTS,
    build_net,
    is_weights_folder,
    read_weights,
    write_weights,
)
from mambavision_lab.models.checkpoint import quiet_hub
from mambavision_lab.tasks.checkpoint import load_checkpoint

Ranking = list[tuple[str, float]]


class MambaVisionInference:
    """A trained network together with its preprocessing and class names.

    Args:
        path: A checkpoint that `train.py` wrote, a run's folder (its best checkpoint, else its last),
            or a folder that `save_pretrained` or `export.py export=safetensors` wrote.
        device: Where to run, such as "cpu" or "cuda"; None takes a GPU where there is one.
        scan_backend: "auto" or a backend of `selective_scan`.

    Attributes:
        description: Plain values that say all but the weights: `architecture`, `preprocessing` and
            `class_names`.

    Raises:
        ConfigError: There is no such checkpoint, its network is none of ours, or no such device.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        scan_backend: str = "auto",
    ) -> None:
        self.description, weights = _read(Path(path))
        facts = self.description["preprocessing"]
        needed = ("image_size", "in_chans", "mean", "std", "keeps_aspect")
        if missing := [name for name in needed if facts.get(name) is None]:
            raise ConfigError(f"{path}: does not say the {missing[0]} of its data; train it anew")
        self.image_size, self.in_chans = int(facts["image_size"]), int(facts["in_chans"])
        self.class_names: list[str] | None = self.description.get("class_names")
        self._normalization = [
            list(v) * self.in_chans if len(v) == 1 else list(v)
            for v in (facts["mean"], facts["std"])
        ]
        self._fit = (
            evaluation_transform(self.image_size)
            if facts["keeps_aspect"]
            else lambda pixels: squash(pixels, self.image_size)
        )
        self.device = _device(device)
        self.net = build_net(self.description, weights, path, scan_backend).to(self.device).eval()

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: str | torch.device | None = None
    ) -> "MambaVisionInference":
        """Load what `save_pretrained` wrote: a folder, or an id on the Hugging Face hub.

        Raises:
            ConfigError: There is no such folder or id, or it holds something else.
        """
        folder = Path(source)
        if not folder.is_dir():
            folder = _download(str(source))
        if not is_weights_folder(folder):
            raise ConfigError(f"{source}: holds no {WEIGHTS} and {CONFIG}; give what was saved")
        return cls(folder, device=device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.safetensors and config.json into a folder, which is made if need be.

        Raises:
            ConfigError: One of the two is there already.
        """
        folder = Path(folder)
        if there := [name for name in (WEIGHTS, CONFIG) if (folder / name).exists()]:
            raise ConfigError(f"{folder}: {there[0]} is already there; give another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(self.net, self.description, folder)

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face hub; returns its address.

        Wants a login (`hf auth login`); the repository is made if there is none.
        """
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))

    def predict(self, images: Any, *, top_k: int = 5, batch_size: int = 64) -> Any:
        """Classify one image, or a list of them.

        Args:
            images: A path, bytes, Pillow image, array or tensor as in `decode`, or a list of these.
            top_k: How many classes to return, at most all of them.
            batch_size: Images that go through the network at once.

        Returns:
            The most probable classes as (name, probability), best first; for a list, a list of those.
        """
        class_names = self.require_class_names()
        if top_k < 1:
            raise ValueError(f"top_k={top_k} must be at least 1")
        rankings: list[Ranking] = []
        for pixels in self._batches(images, batch_size):
            rankings += rank(self.logits(pixels), class_names, top_k)
        return rankings if isinstance(images, list | tuple) else rankings[0]

    def features(self, images: Any, *, batch_size: int = 64) -> Tensor:
        """Return pooled features, (num_features,) for one image and (N, num_features) for a list."""
        net: Any = self.net
        found = []
        for pixels in self._batches(images, batch_size):
            with torch.inference_mode():
                maps = net.forward_features(self._on_device(pixels))
                found.append(net.forward_head(maps, pre_logits=True).float().cpu())
        if not found:
            raise ValueError("features of no images were asked for; give at least one")
        features = torch.cat(found)
        return features if isinstance(images, list | tuple) else features[0]

    def prepare(self, image: Any) -> Tensor:
        """Return one image as uint8 pixels (C, image_size, image_size), as the test images were made."""
        return self._fit(decode(image, self.in_chans)).contiguous()

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits (N, num_classes) on the CPU for prepared pixels (N, C, H, W)."""
        with torch.inference_mode():
            return self.net(self._on_device(pixels)).float().cpu()

    def require_class_names(self) -> list[str]:
        """The class names.

        Raises:
            ConfigError: The checkpoint has none.
        """
        if not self.class_names:
            raise ConfigError("the checkpoint has no class names; use features(), or train it anew")
        return self.class_names

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return float32 images, as the network was trained on, for prepared pixels (N, C, H, W)."""
        return TF.normalize(pixels.float() / 255, *self._normalization)

    def _batches(self, images: Any, batch_size: int) -> Iterator[Tensor]:
        """Prepared pixels (N, C, H, W) of one image, or of a list, a batch at a time."""
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        given = images if isinstance(images, list | tuple) else [images]
        for start in range(0, len(given), batch_size):
            yield torch.stack([self.prepare(image) for image in given[start : start + batch_size]])

    def _on_device(self, pixels: Tensor) -> Tensor:
        dtype = next(self.net.parameters()).dtype
        return self.normalize(pixels.to(self.device, non_blocking=True)).to(dtype)


def rank(logits: Tensor, class_names: list[str], top_k: int) -> list[Ranking]:
    """Turn logits (N, num_classes) into the top_k classes and probabilities of each image."""
    # A head may be wider than the data have classes; the surplus was never trained on.
    best = logits[:, : len(class_names)].softmax(dim=1).topk(min(top_k, len(class_names)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        [(class_names[i], p) for i, p in zip(indices, probabilities, strict=True)]
        for indices, probabilities in pairs
    ]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the weights in a checkpoint or a folder."""
    if is_weights_folder(path):
        return read_weights(path)
    checkpoint = load_checkpoint(_checkpoint_in(path))
    facts: dict[str, Any] = checkpoint["hyper_parameters"].get("data") or {}
    preprocessing = {key: facts.get(key) for key in ("image_size", "in_chans", "mean", "std")}
    # Checkpoints that do not say are older than the choice; files are what they will be used on.
    preprocessing["keeps_aspect"] = facts.get("keeps_aspect", True)
    description = {
        "architecture": dict(checkpoint["hyper_parameters"].get("model") or {}),
        "preprocessing": preprocessing,
        "class_names": facts.get("class_names"),
    }
    prefix = "net."
    weights = {
        key.removeprefix(prefix): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(prefix)
    }
    return description, weights


@quiet_hub()
def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # of many kinds: no network, no such id, no permission
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ConfigError(
            f"{repository}: no such folder here, and the Hugging Face hub did not give it "
            f"({type(error).__name__}: {reason}); check the name and the network"
        ) from error


def _checkpoint_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    raise ConfigError(
        f"{path}: holds no checkpoints/best.ckpt or last.ckpt, nor {WEIGHTS} with {CONFIG}; "
        "give a run's folder"
    )


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device}: no such kind of device; choose cpu or cuda") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device}: no GPU can be used here; choose device=cpu")
    return chosen
