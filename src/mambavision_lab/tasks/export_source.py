"""What an export needs of a run: its network, and images to compare, calibrate and measure on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.mask_files import resize_masks
from mambavision_lab.errors import ConfigError
from mambavision_lab.exporters.runtimes.base import run_module
from mambavision_lab.exporters.verify import BATCHES, resize
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.metrics import main_metric
from mambavision_lab.tasks.build import build_data, wrap_described
from mambavision_lab.tasks.predict import find_images


@dataclass(frozen=True)
class Measured:
    """The main metric of some images, and the class of each, (N, 1), its labels (N, classes) or mask."""

    metric: float
    found: Tensor

    def agreement(self, other: "Measured") -> float:
        """Return the share of images, of masks the share of pixels, in which both found the same."""
        return (self.found == other.found).all(dim=1).float().mean().item()


class ExportSource:
    """The network of `ckpt_path`, and the data of its run where they are there.

    Attributes:
        inference: The network with its preprocessing and class names.
        data: The run's data; None where they cannot be had.
        why_no_data: The reason for that, or "".
        real: A few normalised images (N, C, H, W) to compare on; None without any.
        metric_name: Of the test metric, such as "test/acc1".

    Raises:
        ConfigError: The checkpoint has no class names, or `images` has no images.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.inference = MambaVisionInference(cfg.ckpt_path, device="cpu")
        self.inference.torch_net("export").float()  # of a run in bfloat16, as the files have it
        if not self.inference.class_names:
            raise ConfigError(
                f"ckpt_path={cfg.ckpt_path}: has no class names, which an export contains; train it again"
            )
        self.class_names: list[str] = self.inference.class_names
        self.data: ImageDataModule | None = None
        self.why_no_data = ""
        self._eager: dict[tuple[int, ...] | None, Measured] = {}
        try:
            if cfg.data is None:
                raise ConfigError("data=null")
            self.data = build_data(cfg)
            self.data.use_preprocessing(self.inference.description["preprocessing"])
            self.data.use_classes(self.class_names)
        except ConfigError as error:
            self.data, self.why_no_data = None, str(error)
        self.real = self._real_images(cfg.images)
        main = main_metric(self.inference.is_multilabel, self.inference.has_masks).rpartition("/")[
            2
        ]
        self.metric_name = f"test/{main}"

    def training_images(self, count: int) -> Tensor:
        """Return normalised training images (count, C, H, W), from all of the split.

        Raises:
            ConfigError: There are none.
        """
        train: Any = None if self.data is None else self.data.splits.train
        if train is None or not hasattr(train, "__len__") or not len(train):
            raise ConfigError(
                "export.quantize: int8 is calibrated on the run's training images, and there are none "
                f"({self.why_no_data or 'they are not indexed'}); give data.root=FOLDER"
            )
        indices = torch.linspace(0, len(train) - 1, min(count, len(train))).long().tolist()
        return self.inference.normalize(torch.stack([train[i][0] for i in indices]))

    def measure(
        self, run: Callable[[Tensor], Tensor], split: str, sides: Sequence[int] | None = None
    ) -> "Measured":
        """Measure a network on the split "val" or "test".

        Args:
            run: Maps normalised images to logits.
            split: Which images.
            sides: What they, and masks, are resized to; None leaves them as they were trained on.

        Raises:
            ConfigError: There are no data.
        """
        if self.data is None:
            raise ConfigError(f"no data to measure on ({self.why_no_data})")
        several, count = self.inference.is_multilabel, len(self.class_names)
        metrics: Any = wrap_described(nn.Identity(), self.inference.description).metrics
        metric = metrics["test"][self.metric_name.rpartition("/")[2]]
        found, data = [], self.data
        for batch in data.val_dataloader() if split == "val" else data.test_dataloader():
            images, labels = data.prepare_batch(batch)
            if sides is not None:
                images = resize(images, sides)
            if sides is not None and self.inference.has_masks:
                labels = resize_masks(labels, sides)
            logits = run(images)
            metric.update(logits, labels)
            logits = logits[:, :count]
            found.append(logits > 0 if several else logits.argmax(dim=1, keepdim=True))
        return Measured(float(metric.compute()), torch.cat(found))

    def eager(self, sides: tuple[int, ...] | None = None) -> "Measured":
        """Measure the network itself on the test images, once for each size."""
        if sides not in self._eager:
            self._eager[sides] = self.measure(run_module(self.inference.net), "test", sides)
        return self._eager[sides]

    def _real_images(self, images: str | None) -> Tensor | None:
        count = max(BATCHES)
        if images is not None:
            pixels = [
                self.inference.prepare(name)
                for name in find_images(images, self.inference.preparation.kind)[:count]
            ]
        elif self.data is not None:
            test: Any = self.data.splits.test
            pixels = [test[i][0] for i in range(min(count, len(test)))]
        else:
            return None
        return self.inference.normalize(torch.stack(pixels))
