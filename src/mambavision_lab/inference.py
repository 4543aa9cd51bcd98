"""Use a trained network on images of any kind: `MambaVisionInference("logs/latest").predict("cat.jpg")`.

Everything needed comes out of the checkpoint: the network's settings, its weights, and how its
training images were sized, coloured and normalised.
"""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.decode import decode, evaluation_transform, squash
from mambavision_lab.errors import ConfigError
from mambavision_lab.tasks.checkpoint import load_checkpoint

Ranking = list[tuple[str, float]]


class MambaVisionInference:
    """A trained network together with its preprocessing and class names.

    Args:
        path: A checkpoint that `train.py` wrote, or a run's folder (its best checkpoint, else its last).
        device: Where to run, such as "cpu" or "cuda"; None takes a GPU where there is one.

    Raises:
        ConfigError: There is no such checkpoint, its network is none of ours, or no such device.
    """

    def __init__(self, path: str | Path, *, device: str | torch.device | None = None) -> None:
        checkpoint = load_checkpoint(_checkpoint_in(Path(path)))
        facts: dict[str, Any] = checkpoint["hyper_parameters"].get("data") or {}
        needed = ("image_size", "in_chans", "mean", "std")
        if missing := [name for name in needed if name not in facts]:
            raise ConfigError(f"{path}: does not say the {missing[0]} of its data; train it anew")
        self.image_size, self.in_chans = int(facts["image_size"]), int(facts["in_chans"])
        self.class_names: list[str] | None = facts.get("class_names")
        self._normalization = [
            list(v) * self.in_chans if len(v) == 1 else list(v)
            for v in (facts["mean"], facts["std"])
        ]
        # Checkpoints that do not say are older than the choice; files are what they will be used on.
        self._fit = (
            evaluation_transform(self.image_size)
            if facts.get("keeps_aspect", True)
            else lambda pixels: squash(pixels, self.image_size)
        )
        self.device = _device(device)
        self.net = _build(checkpoint, path).to(self.device).eval()

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
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k={top_k}, batch_size={batch_size}: both must be at least 1")
        is_one = not isinstance(images, list | tuple)
        pixels = [self.prepare(image) for image in ([images] if is_one else images)]
        rankings: list[Ranking] = []
        for start in range(0, len(pixels), batch_size):
            logits = self.logits(torch.stack(pixels[start : start + batch_size]))
            rankings += rank(logits, class_names, top_k)
        return rankings[0] if is_one else rankings

    def features(self, images: Any, *, batch_size: int = 64) -> Tensor:
        """Return pooled features, (num_features,) for one image and (N, num_features) for a list."""
        is_one = not isinstance(images, list | tuple)
        pixels = [self.prepare(image) for image in ([images] if is_one else images)]
        net: Any = self.net
        found = []
        with torch.inference_mode():
            for start in range(0, len(pixels), batch_size):
                x = self._normalized(torch.stack(pixels[start : start + batch_size]))
                found.append(net.forward_head(net.forward_features(x), pre_logits=True))
        if not found:
            raise ValueError("features of no images were asked for; give at least one")
        features = torch.cat(found).float().cpu()
        return features[0] if is_one else features

    def prepare(self, image: Any) -> Tensor:
        """Return one image as uint8 pixels (C, image_size, image_size), as the test images were made."""
        return self._fit(decode(image, self.in_chans)).contiguous()

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits (N, num_classes) on the CPU for prepared pixels (N, C, H, W)."""
        with torch.inference_mode():
            return self.net(self._normalized(pixels)).float().cpu()

    def require_class_names(self) -> list[str]:
        """The class names.

        Raises:
            ConfigError: The checkpoint has none.
        """
        if not self.class_names:
            raise ConfigError("the checkpoint has no class names; use features(), or train it anew")
        return self.class_names

    def _normalized(self, pixels: Tensor) -> Tensor:
        dtype = next(self.net.parameters()).dtype
        images = pixels.to(self.device, non_blocking=True).float() / 255
        return TF.normalize(images, *self._normalization).to(dtype)


def rank(logits: Tensor, class_names: list[str], top_k: int) -> list[Ranking]:
    """Turn logits (N, num_classes) into the top_k classes and probabilities of each image."""
    # A head may be wider than the data have classes; the surplus was never trained on.
    best = logits[:, : len(class_names)].softmax(dim=1).topk(min(top_k, len(class_names)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        [(class_names[i], p) for i, p in zip(indices, probabilities, strict=True)]
        for indices, probabilities in pairs
    ]


def _checkpoint_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    raise ConfigError(f"{path}: holds no checkpoints/best.ckpt or last.ckpt; give a run's folder")


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


def _build(checkpoint: dict[str, Any], path: str | Path) -> nn.Module:
    """Make the network that a checkpoint describes; only classes of ours, for a file may name any."""
    settings = dict(checkpoint["hyper_parameters"].get("model") or {})
    target = str(settings.get("_target_"))
    if not target.startswith("mambavision_lab.models."):
        raise ConfigError(f"{path}: its network is {target}; wanted one of mambavision_lab.models")
    settings.pop("pretrained", None)  # weights to start from; the trained ones follow
    if "scan_backend" in settings:
        settings["scan_backend"] = "auto"  # this machine's, not that of the one it was trained on
    net: nn.Module = instantiate(settings, _convert_="all")
    prefix = "net."
    weights = {
        key.removeprefix(prefix): value
        for key, value in checkpoint["state_dict"].items()
        if key.startswith(prefix)
    }
    dtypes = {value.dtype for value in weights.values() if value.is_floating_point()}
    if len(dtypes) == 1:
        net.to(dtypes.pop())  # a run with precision=bf16-true
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{path}: its weights do not fit its own network ({reason})") from error
    return net
