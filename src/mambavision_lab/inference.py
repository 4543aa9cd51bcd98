"""Use a trained network on images of any kind: `MambaVisionInference("logs/latest").predict("cat.jpg")`.

All it needs is in the checkpoint: the network's settings, its weights, and how its training images were
sized, coloured and normalised. `save_pretrained` writes the same into a folder as model.safetensors and
config.json, which can be shared on the Hugging Face hub.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor

from mambavision_lab.data.folders import CLIPS
from mambavision_lab.described_network import DescribedNetwork
from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers.base import Explanation
from mambavision_lab.explainers.methods import default_method, explain_all
from mambavision_lab.exporters.runtimes.network import load_network
from mambavision_lab.files import CONFIG, WEIGHTS
from mambavision_lab.models.card import MODEL_CARD, card_values
from mambavision_lab.models.hub import download_folder
from mambavision_lab.models.ranking import Ranking, rank, rank_several
from mambavision_lab.models.saved import is_weights_folder, write_weights
from mambavision_lab.models.sliding_window import segment
from mambavision_lab.models.tta import TestTimeAugmentation


class MambaVisionInference(
    DescribedNetwork,
    ModelHubMixin,
    library_name="mambavision-lab",
    pipeline_tag="image-classification",
    tags=["mambavision"],
    model_card_template=MODEL_CARD,
):
    """A trained network together with its preprocessing and class names.

    Args:
        path: A checkpoint that `train.py` wrote, a run's folder (its best checkpoint, else its last),
            a folder that `save_pretrained` or `export.py export=safetensors` wrote, or an exported file
            such as model.onnx, which runs in its own runtime.
        device: Where to run, such as "cpu" or "cuda"; None takes a GPU where there is one. Exported files
            run on the CPU.
        scan_backend: "auto" or a backend of `selective_scan`.
        tta: Average the probabilities over several views of each image.

    Attributes:
        description: Plain values, all but the weights: `architecture`, `preprocessing`, `class_names`, and
            the `name` and `metrics` of the run where they are known.

    Raises:
        ConfigError: There is no such checkpoint, its network is none of ours, or no such device; an exported
            file's runtime is not installed, or refuses it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        scan_backend: str = "auto",
        tta: TestTimeAugmentation | None = None,
    ) -> None:
        description, net, self.device = load_network(Path(path), device, scan_backend)
        super().__init__(description, net, str(path))
        self.tta = tta
        if tta is not None:
            self.require_labels("tta")
            tta.check(self.net, self.in_chans, self.image_size)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # not its config and constructor arguments
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        scan_backend: str = "auto",
        tta: TestTimeAugmentation | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> "MambaVisionInference":
        """Load what `save_pretrained` wrote: a folder, or an id on the Hugging Face hub.

        Args:
            source: The folder, or an id such as "you/clothes".
            device: As in the constructor.
            scan_backend: As in the constructor.
            tta: As in the constructor.
            revision: Branch, tag or commit on the hub; None is the newest.
            token: For a private repository, where `hf auth login` was not called.

        Raises:
            ConfigError: There is no such folder or id, or it holds something else.
        """
        folder = Path(source)
        if not folder.is_dir():
            folder = download_folder(str(source), [CONFIG, WEIGHTS], revision=revision, token=token)
        if not is_weights_folder(folder):
            raise ConfigError(f"{source}: holds no {WEIGHTS} and {CONFIG}; give what was saved")
        return cls(folder, device=device, scan_backend=scan_backend, tta=tta)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write model.safetensors, config.json and a model card into a folder, made if need be.

        A README.md that is there already stays. Options are those of `ModelHubMixin.save_pretrained`.

        Raises:
            ConfigError: The weights or the config are there already.
        """
        folder = Path(save_directory)
        if there := [name for name in (WEIGHTS, CONFIG) if (folder / name).exists()]:
            raise ConfigError(f"{folder}: {there[0]} is already there; give another folder")
        return super().save_pretrained(folder, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face hub; returns its address.

        Wants a login (`hf auth login`) or a token; the repository is made if there is none. Options are
        those of `ModelHubMixin.push_to_hub`: private, token, branch, commit_message, create_pr ...
        """
        card = {"repo_id": repo_id, **(options.pop("model_card_kwargs", None) or {})}
        return str(super().push_to_hub(repo_id, model_card_kwargs=card, **options))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_weights(self.torch_net("save_pretrained()"), self.description, save_directory)

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """Make the model card that `save_pretrained` and `push_to_hub` write as README.md."""
        values = card_values(self.net, self.description, self.preparation)
        card = super().generate_model_card(*args, **{**values, **options})
        if self.has_masks:
            card.data["pipeline_tag"] = "image-segmentation"
        elif self.preparation.kind.noun == CLIPS.noun:
            card.data["pipeline_tag"] = "video-classification"
        return card

    def predict(
        self, images: Any, *, top_k: int = 5, threshold: float = 0.5, batch_size: int = 64
    ) -> Any:
        """Classify one image, or a list of them.

        Args:
            images: A path, open file, bytes, Pillow image, array or tensor as in `decode`, or a list of
                these; for a network of volumes a path or array, of clips a path.
            top_k: How many classes to return, at most all of them.
            threshold: Of a network that was trained on several labels, the least probability of the classes
                to return, all of them.
            batch_size: Images that go through the network at once.

        Returns:
            The most probable classes as (name, probability), best first; for a list, a list of those.
        """
        if top_k < 1:
            raise ValueError(f"top_k={top_k} must be at least 1")
        rankings: list[Ranking] = []
        for pixels in self._batches(images, batch_size):
            rankings += self.rank(pixels, top_k, threshold)
        return rankings if isinstance(images, list | tuple) else rankings[0]

    def segment(self, image: Any, *, overlap: float = 0.5) -> Tensor:
        """Return the class of each pixel of one image, (H, W), or voxel of a volume, (D, H, W), int64.

        A network that was trained on windows predicts windows of the image at its own size, one that was
        trained on resized images resizes it.

        Args:
            image: As in `predict`, one of them.
            overlap: Share of a window's side that the next one repeats.

        Raises:
            ConfigError: The image cannot be read, or the network gives no masks.
        """
        read = self.preparation.read
        if not self.has_masks or read is None:
            raise ConfigError("segment(): the network gives classes, no masks; use predict()")
        return segment(self.net, self.preparation, read(image), self._on_device, overlap)

    def features(self, images: Any, *, batch_size: int = 64) -> Tensor:
        """Return pooled features, (num_features,) for one image and (N, num_features) for a list."""
        self.require_labels("features()")
        net: Any = self.torch_net("features()")
        found = []
        for pixels in self._batches(images, batch_size):
            with torch.inference_mode():
                maps = net.forward_features(self._on_device(pixels))
                found.append(net.forward_head(maps, pre_logits=True).float().cpu())
        if not found:
            raise ValueError("no images were given; features need at least one")
        features = torch.cat(found)
        return features if isinstance(images, list | tuple) else features[0]

    def explain(
        self, image: Any, *, method: str | None = None, target: str | int | None = None
    ) -> Explanation:
        """Find where in an image the network finds what it decides by.

        Args:
            image: As in `predict`, one of them.
            method: A name from `explainers.methods.METHODS`, such as "scan" or "gradcam"; None takes one that
                fits the network.
            target: The class to explain, by its name or number; None is the most probable one.

        Returns:
            The map of the size of the network's images, where it comes from, and maps of single layers.

        Raises:
            ConfigError: The image cannot be read, the method or class does not exist, or the method does not
                fit the network.
        """
        name = method or default_method(self.torch_net("an explanation"))
        return self.explain_pixels(self.prepare(image), [name], target)[name]

    def explain_pixels(
        self, pixels: Tensor, methods: Sequence[str], target: str | int | None = None
    ) -> dict[str, Explanation]:
        """Return what `explain` does, for prepared pixels (C, *sides) and by each method."""
        self.require_labels("an explanation")
        if isinstance(target, str):
            target = self.require_class_names().index(self.require_class(target))
        net = self.torch_net("an explanation")
        return explain_all(net, self._on_device(pixels[None]), methods, target)

    def prepare(self, image: Any) -> Tensor:
        """Return one image as uint8 pixels (C, image_size, image_size), as the test images were prepared.

        A network of volumes or clips takes one of these, (C, D, image_size, image_size).
        """
        return self.preparation.prepare(image)

    def prepare_stack(self, images: np.ndarray) -> Tensor:
        """Return images of one size, an array (N, H, W, C), as `prepare` does each, (N, C, H, W).

        Raises:
            ConfigError: The network is one of volumes, clips or masks.
            ValueError: The array has another shape, type or range.
        """
        self.require_images("prepare_stack()")
        assert self.preparation.prepare_stack is not None
        return self.preparation.prepare_stack(images)

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits (N, num_classes) on the CPU for prepared pixels (N, C, H, W).

        With test-time augmentation they are log-probabilities, of several labels their logits.
        """
        with torch.inference_mode():
            images = self._on_device(pixels)
            logits = (
                self.tta(self.net, images, self.is_multilabel) if self.tta else self.net(images)
            )
            return logits.float().cpu()

    def rank(self, pixels: Tensor, top_k: int, threshold: float) -> list[Ranking]:
        """Return what `predict` does, for prepared pixels (N, C, H, W).

        Raises:
            ConfigError: The network gives NaN.
        """
        self.require_labels("predict()")
        class_names, logits = self.require_class_names(), self.logits(pixels)
        if logits.isnan().any():
            raise ConfigError("the network gives NaN; check its weights")
        if self.is_multilabel:
            return rank_several(logits, class_names, threshold)
        return rank(logits, class_names, top_k)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return float32 images, as the network was trained on, for prepared pixels (N, C, H, W)."""
        return self.preparation.normalize(pixels)

    def _batches(self, images: Any, batch_size: int) -> Iterator[Tensor]:
        """Yield prepared pixels (N, C, H, W) of one image, or of a list, a batch at a time."""
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        given = images if isinstance(images, list | tuple) else [images]
        for start in range(0, len(given), batch_size):
            yield torch.stack([self.prepare(image) for image in given[start : start + batch_size]])

    def _on_device(self, pixels: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self.net.parameters()), torch.float32)
        return self.normalize(pixels.to(self.device, non_blocking=True)).to(dtype)
