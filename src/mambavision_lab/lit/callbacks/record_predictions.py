"""Store the predictions of a test, for the report."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn

from mambavision_lab.data.volumes import side_by_side
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.explainers.methods import default_method, explain
from mambavision_lab.explainers.names import require_methods
from mambavision_lab.lit.callbacks.prediction_rows import rows_of
from mambavision_lab.lit.callbacks.thumbnails import thumbnail

log = logging.getLogger(__name__)

FILE = "predictions.npz"


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
        self._kind = rows_of(pl_module)
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
        rows, error = self._kind.of_batch(outputs.float(), labels)
        self._columns.append(self._kind.stored(rows))
        ranks = {"mistakes": error, "random": self._generator.random(len(labels))}
        data = getattr(trainer, "datamodule", None)
        for group, rank in ranks.items():
            samples = self._samples[group]
            for index in np.argsort(-rank, kind="stable")[: self.num_images]:
                is_full = len(samples) >= self.num_images
                if not np.isfinite(rank[index]) or (is_full and rank[index] <= samples[-1][0]):
                    break
                pixels = thumbnail(images[index], data)
                beside = self._kind.beside(images[index], labels[index], outputs[index])
                samples.append((float(rank[index]), rows[:, index].tolist(), pixels, beside))
                samples.sort(key=lambda sample: -sample[0])
                del samples[self.num_images :]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather from all processes and write the file."""
        if self._kind.shown == "maps":
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
        arrays |= self._kind.columns(rows, "")
        for group in self._samples:
            gathered = [sample for _, samples in ranks for sample in samples[group]]
            best = sorted(gathered, key=lambda sample: -sample[0])[: self.num_images]
            if best:
                chosen = np.array([row for _, row, *_ in best]).T
                arrays |= self._kind.columns(chosen, f"{group}_")
                arrays[f"{group}_images"] = np.stack([pixels for *_, pixels, _ in best])
                if all(values is not None for *_, values in best):
                    arrays[f"{group}_{self._kind.shown}"] = np.stack(
                        [values for *_, values in best]
                    )
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.folder / FILE, **arrays)  # type: ignore[arg-type]

    def _explain(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the image of each sample by its map, or by None where there is to be none."""
        net: Any = getattr(pl_module, "net", None)
        is_sharded = isinstance(trainer.strategy, FSDPStrategy)  # a rank alone has not all weights
        is_wanted = self.explain is not None and net is not None and not is_sharded
        for group, samples in self._samples.items():
            explained = []
            for rank, row, pixels, image in samples:
                values = None
                if is_wanted:
                    try:
                        target = self._kind.predicted(row)
                        values = _map(net, image, self.explain, target, pixels.shape[:2])
                    except (ConfigError, RuntimeError) as error:  # the test's metrics are kept
                        log.warning(
                            "callbacks.predictions.explain=%s: the report has no maps: %s",
                            self.explain,
                            reason(error),
                        )
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
