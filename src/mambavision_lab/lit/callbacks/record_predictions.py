"""Store the predictions of a test, for the report."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

from mambavision_lab.data.volumes import side_by_side
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.explainers.methods import default_method, explain
from mambavision_lab.explainers.names import require_methods
from mambavision_lab.lit.callbacks.mask_samples import mask_columns, mask_rows

log = logging.getLogger(__name__)

FILE = "predictions.npz"
THUMBNAIL_SIZE = 112  # pixels, longer side


class RecordPredictions(Callback):
    """Write `predictions.npz`: label, predicted class and its probability for each test image.

    The file also holds thumbnails of the most confident mistakes and of some random images:
    `<group>_images` (N, H, W, C) uint8, `<group>_labels`, `<group>_predicted`, `<group>_confidence`
    for the groups `mistakes` and `random`; and `class_names`. Where images have several labels, labels and
    probabilities are those of all classes, (N, num_classes): `targets` and `probabilities`.

    And what the network looked at: `<group>_maps` (N, H, W) uint8, each scaled to its maximum. Of a
    segmentation: `pixels` by true and predicted class, and `<group>_masks` (N, 2, H, W), true and predicted,
    with the mean Dice of each, `<group>_dice`; its mistakes are those of the lowest Dice. Of volumes and
    clips slices lie side by side.

    Args:
        folder: Folder that receives the file.
        num_images: Thumbnails in each group, at most.
        explain: Method of the maps, as in explain.py; "auto" takes one that fits the network, None leaves
            them out. They explain the predicted class, of several labels the most probable one.
    """

    def __init__(self, folder: str, num_images: int = 12, explain: str | None = "auto") -> None:
        if explain not in (None, "auto"):
            require_methods([explain])
        self.folder = Path(folder)
        self.num_images = num_images
        self.explain = explain

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start empty, whatever an earlier test recorded."""
        # (3, N): label, predicted, confidence; of several labels (2 num_classes, N): labels, probabilities
        self._columns: list[np.ndarray] = []
        self._samples: dict[str, list[tuple[float, list[float], np.ndarray, Any]]] = {
            "mistakes": [],
            "random": [],
        }
        self._generator = np.random.default_rng([0, trainer.global_rank])

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record the batch's predictions, and those of its images that rank highest in a group."""
        images, labels = batch
        has_masks = getattr(pl_module, "has_masks", False)
        of_labels = _rows if labels.ndim == 1 else _rows_of_several
        rows, error = (mask_rows if has_masks else of_labels)(outputs.float(), labels)
        self._columns.append(rows.sum(axis=1, keepdims=True) if has_masks else rows)
        ranks = {
            "mistakes": error,
            "random": self._generator.random(len(labels)),
        }
        data = getattr(trainer, "datamodule", None)
        for group, rank in ranks.items():
            samples = self._samples[group]
            for index in np.argsort(-rank, kind="stable")[: self.num_images]:
                is_full = len(samples) >= self.num_images
                if not np.isfinite(rank[index]) or (is_full and rank[index] <= samples[-1][0]):
                    break
                pixels = thumbnail(images[index], data)
                row = rows[:, index].tolist()
                if has_masks:
                    masks = torch.stack([labels[index], outputs[index].argmax(dim=0)])
                    samples.append((float(rank[index]), row, pixels, mask_thumbnail(masks)))
                else:
                    samples.append((float(rank[index]), row, pixels, images[index].clone()))
                samples.sort(key=lambda sample: -sample[0])
                del samples[self.num_images :]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather from all processes and write the file."""
        if not getattr(pl_module, "has_masks", False):
            self._explain(trainer, pl_module)
        ranks: list[Any] = [(self._columns, self._samples)]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            dist.all_gather_object(ranks, (self._columns, self._samples))
        if not trainer.is_global_zero or not any(columns for columns, _ in ranks):
            return
        rows = np.concatenate([c for columns, _ in ranks for c in columns], axis=1)
        names = getattr(getattr(trainer, "datamodule", None), "class_names", [])
        arrays: dict[str, np.ndarray] = {"class_names": np.array(list(names), dtype=str)}
        has_masks = getattr(pl_module, "has_masks", False)
        of_labels = _columns_of_several if getattr(pl_module, "is_multilabel", False) else _columns
        name_columns = mask_columns if has_masks else of_labels
        arrays |= name_columns(rows, "")
        for group in self._samples:
            gathered = [sample for _, samples in ranks for sample in samples[group]]
            best = sorted(gathered, key=lambda sample: -sample[0])[: self.num_images]
            if best:
                arrays |= name_columns(np.array([row for _, row, *_ in best]).T, f"{group}_")
                arrays[f"{group}_images"] = np.stack([pixels for *_, pixels, _ in best])
                if all(values is not None for *_, values in best):
                    kind = "masks" if has_masks else "maps"
                    arrays[f"{group}_{kind}"] = np.stack([values for *_, values in best])
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.folder / FILE, **arrays)  # type: ignore[arg-type]

    def _explain(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the image of each sample by its map, or by None where there is to be none."""
        net: Any = getattr(pl_module, "net", None)
        is_sharded = isinstance(trainer.strategy, FSDPStrategy)  # a rank alone has not all weights
        is_wanted = self.explain is not None and net is not None and not is_sharded
        predicted = (
            _predicted_of_several if getattr(pl_module, "is_multilabel", False) else _predicted
        )
        for group, samples in self._samples.items():
            explained = []
            for rank, row, pixels, image in samples:
                values = None
                if is_wanted:
                    try:
                        values = _map(net, image, self.explain, predicted(row), pixels.shape[:2])
                    except (ConfigError, RuntimeError) as error:  # the test's metrics are kept
                        log.warning("no maps of what the network looks at: %s", reason(error))
                        is_wanted = False
                explained.append((rank, row, pixels, values))
            self._samples[group] = explained


def _map(
    net: nn.Module, image: Tensor, method: str | None, target: int, size: tuple[int, ...]
) -> np.ndarray:
    """Explain one image (C, H, W) or volume (C, D, H, W); returns its map at a thumbnail's size, uint8."""
    name = default_method(net) if method in (None, "auto") else str(method)
    dtype = next(net.parameters()).dtype
    values = explain(net, image[None].to(dtype), name, target).map.float().cpu()
    small = F.interpolate(side_by_side(values[None])[None], size, mode="area")[0, 0]
    return (255 * small / small.max().clamp_min(1e-30)).round().byte().numpy()


def _predicted(row: list[float]) -> int:
    return int(row[1])


def _predicted_of_several(row: list[float]) -> int:
    return int(np.argmax(row[len(row) // 2 :]))


def _rows(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a batch, and how confident each mistake is, -inf for what is right."""
    confidence, predicted = F.softmax(logits, dim=1).max(dim=1)
    rows = torch.stack([labels.double(), predicted.double(), confidence.double()]).cpu().numpy()
    return rows, np.where(rows[0] != rows[1], rows[2], -np.inf)


def _rows_of_several(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Do the same for several labels: the error of an image is that of its worst class."""
    rows = torch.cat([labels.double().T, logits.sigmoid().double().T]).cpu().numpy()
    error = np.abs(np.subtract(*np.split(rows, 2))).max(axis=0)
    return rows, np.where(error > 0.5, error, -np.inf)


def _columns_of_several(rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    targets, probabilities = np.split(rows.T, 2, axis=1)
    return {
        f"{prefix}targets": targets.astype(np.uint8),
        f"{prefix}probabilities": probabilities.astype(np.float32),
    }


def _columns(rows: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    return {
        f"{prefix}labels": rows[0].astype(np.int32),
        f"{prefix}predicted": rows[1].astype(np.int32),
        f"{prefix}confidence": rows[2].astype(np.float32),
    }


def thumbnail(image: Tensor, data: Any) -> np.ndarray:
    """Shrink a normalised image (C, H, W) to a uint8 thumbnail (H, W, C) with C = 1 or 3.

    Of a volume or clip (C, D, H, W) some slices lie beside each other, first to last.

    Args:
        image: Input of the network.
        data: Data module with `mean` and `std`; without them the image is scaled to its own range.
    """
    pixels = side_by_side(image.detach().float().cpu())
    mean, std = getattr(data, "mean", None), getattr(data, "std", None)
    if mean is None or std is None:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / (high - low).clamp_min(1e-6)
    else:
        pixels = pixels * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    if pixels.shape[0] not in (1, 3):
        pixels = pixels[:1]
    scale = THUMBNAIL_SIZE / max(image.shape[-2:])
    if scale < 1:
        pixels = F.interpolate(pixels[None], scale_factor=scale, mode="bilinear", antialias=True)[0]
    return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def mask_thumbnail(masks: Tensor) -> np.ndarray:
    """Shrink masks (2, H, W) as `thumbnail` does an image, without new values; uint8."""
    pixels = side_by_side(masks.cpu()).to(torch.uint8)
    scale = THUMBNAIL_SIZE / max(masks.shape[-2:])
    if scale < 1:
        pixels = F.interpolate(pixels[None], scale_factor=scale, mode="nearest-exact")[0]
    return pixels.numpy()
