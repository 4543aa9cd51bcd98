"""The base of all data modules: settings, splits, loaders, and the preparation of batches.

Loaders give uint8 batches. After the transfer to the device these become floats, are augmented (in
training) and normalised: a quarter of the bytes is transferred, and augmentation runs on the device.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from mambavision_lab.data.augment.apply import augment_batch, is_by_image
from mambavision_lab.data.augment.batch import Augment
from mambavision_lab.data.augment.masks import check_mask_augment
from mambavision_lab.data.augment.policies import check_policy
from mambavision_lab.data.in_memory import InMemoryImages, fit_images
from mambavision_lab.data.label_map import LabelMap
from mambavision_lab.data.loaders import evaluation_loader, training_loader, training_sampler
from mambavision_lab.data.multi_scale import MultiScale
from mambavision_lab.data.normalize import normalize
from mambavision_lab.data.prepare_ahead import MAX_VALUES, PreparedBatch
from mambavision_lab.data.settings import check_loading, check_normalisation, require_positive
from mambavision_lab.data.splits import Splits
from mambavision_lab.data.training_images import TrainingImages
from mambavision_lab.data.workers import auto_workers
from mambavision_lab.errors import ConfigError

Batch = tuple[Tensor, Tensor]


class ImageDataModule(LightningDataModule):
    """Base of the data modules; a subclass reads or generates its images in `load`.

    Args:
        image_size: Pixels per side that the network receives.
        in_chans: Channels that the network receives; 1 or 3 where images are read from files.
        num_classes: Number of classes of the data.
        mean: Mean per channel of images in [0, 1], one value or in_chans of them.
        std: Standard deviation per channel, one value or in_chans of them.
        flip_keeps_class: Whether a mirrored image keeps its class; configs of augmentations refer to it.
        root: Folder of the data, for data sets that have one.
        batch_size: Images per batch and device.
        global_batch_size: Images per optimizer step, of all devices and accumulated batches; None is what
            these give. A training accumulates as many batches as it takes.
        val_fraction: Share of each training class that is held out where there is no val split.
        seed: Fixes the splits.
        sampler: "random", or "balanced" to give each class equally often in an epoch.
        augment: An `Augment`, or another module for float batches (N, C, H, W) in [0, 1]; or None.
        num_workers: Loader processes; None chooses 0 for data in memory without a policy to apply, else
            this process's share of the cores, at most 8.
        worker_timeout_s: Seconds that a worker may take for a batch; 0 waits for ever.

    Attributes:
        is_multilabel: Whether an image has any number of classes, given as 0 or 1 for each, not one.
        batch_indices: Of the newest training batch, the images' indices in the split, (N,), or None.

    Raises:
        ConfigError: A setting is impossible.
    """

    # Photographs can be converted to 1 or 3 channels; a subclass may generate any number.
    supports_any_in_chans: ClassVar[bool] = False
    # Whether images of other sizes are resized and cropped (files), or squashed to a square.
    keeps_aspect: ClassVar[bool] = False
    # Whether the labels are masks, a class for each pixel: (N, H, W), or (N, D, H, W) of volumes.
    has_masks: ClassVar[bool] = False

    def __init__(
        self,
        *,
        image_size: int,
        in_chans: int,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        flip_keeps_class: bool = True,
        root: str | None = None,
        batch_size: int = 128,
        global_batch_size: int | None = None,
        val_fraction: float = 0.1,
        seed: int = 0,
        sampler: str = "random",
        augment: nn.Module | None = None,
        num_workers: int | None = None,
        worker_timeout_s: float = 600,
    ) -> None:
        super().__init__()
        require_positive(batch_size=batch_size, image_size=image_size, num_classes=num_classes)
        check_loading(num_workers, worker_timeout_s, val_fraction, sampler)
        if in_chans not in (1, 3) and not (self.supports_any_in_chans and in_chans > 0):
            raise ConfigError(f"data.in_chans={in_chans} is not possible; choose 1 or 3")
        if self.has_masks:
            check_mask_augment(augment)
        check_normalisation(mean, std, in_chans)
        self.image_size = image_size
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.mean, self.std = list(mean), list(std)
        self.flip_keeps_class = flip_keeps_class
        self.root = root
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.val_fraction = val_fraction
        self.seed = seed
        self.sampler = sampler
        self.augment = augment
        self.num_workers = num_workers
        self.worker_timeout_s = worker_timeout_s
        self.is_multilabel = False
        self.multi_scale: MultiScale | None = None  # set for a training on several sizes
        self._splits: Splits | None = None
        self._label_map: LabelMap | None = None
        self._first_epoch, self._skipped_batches = 0, 0
        self._training_seed: int | None = None
        self.batch_indices: np.ndarray | None = None

    def load(self) -> Splits:
        """Read or generate the three splits."""
        raise NotImplementedError

    @property
    def splits(self) -> Splits:
        """Train, val and test splits, loaded on first use.

        Raises:
            ConfigError: The data are missing, or have another number of classes than configured.
        """
        if self._splits is None:
            splits = self.load()
            if len(splits.class_names) != self.num_classes:
                raise ConfigError(
                    f"data.num_classes={self.num_classes}, but the data have "
                    f"{len(splits.class_names)} classes; leave data.num_classes as it is"
                )
            self._splits = splits
        return self._splits

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of what the network receives, in pixels."""
        return self.image_size, self.image_size

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return self.splits.class_names

    def use_classes(self, class_names: Sequence[str]) -> None:
        """Number the labels by class_names, the classes that a network was trained on.

        Raises:
            ConfigError: The data have a class that class_names lacks.
        """
        self._label_map = LabelMap(self.class_names, class_names)

    def use_preprocessing(self, trained: Mapping[str, Any]) -> None:
        """Prepare images as those were that a network was trained on; nothing to do in memory.

        Args:
            trained: What the checkpoint stores about its data, see `metadata`.

        Raises:
            ConfigError: The network takes another number of channels.
        """
        if self.in_chans != (wanted := trained.get("in_chans", self.in_chans)):
            raise ConfigError(
                f"data.in_chans={self.in_chans}: the network takes {wanted}; give that"
            )

    def resume_at(self, epoch: int, num_batches: int) -> None:
        """Let the first training epoch be this one, without its first batches."""
        self._first_epoch, self._skipped_batches = epoch, num_batches

    def seed_training(self, seed: int) -> None:
        """Let the order of the training images and their augmentation follow from a run's seed.

        Without this they follow from torch's seed when the loader is made.
        """
        self._training_seed = seed

    def metadata(self) -> dict[str, Any]:
        """Collect what a checkpoint stores about the data, as plain values."""
        shape = ("image_size", "in_chans", "num_classes", "mean", "std")
        names = (*shape, "class_names", "keeps_aspect", "is_multilabel", "has_masks")
        return {name: getattr(self, name) for name in names}

    def setup(self, stage: str) -> None:
        """Load the splits, so that errors in the data are reported before training starts."""
        _ = self.splits

    def train_dataloader(self) -> DataLoader:
        """Return a loader of shuffled batches that leaves out an incomplete last one.

        A batch has uint8 images (N, C, H, W), labels (N,), and the images' random numbers for
        `prepare_batch`. Order and numbers follow from the seed and the epoch, which a Trainer sets; in a
        loop of your own call `loader.sampler.set_epoch(epoch)`. Under a Trainer on a CPU, small images in
        memory come as `PreparedBatch`, which `prepare_batch` takes too.
        """
        data, policy = self.splits.train, getattr(self.augment, "policy", None)
        check_policy(policy, (self.in_chans, self.image_size, self.image_size))
        seed = torch.initial_seed() if self._training_seed is None else self._training_seed
        images = TrainingImages(data, seed, policy)
        sampler = training_sampler(
            images,
            self.trainer,
            labels=self.train_labels() if self.sampler == "balanced" else None,
            repeats=getattr(self.augment, "repeats", 1),
            batch_size=self.batch_size,
            multi_scale=self.multi_scale,
        )
        per_batch = self.batch_size if self.multi_scale is None else 1
        sampler.start_at(self._first_epoch, self._skipped_batches * per_batch)
        if mixing := getattr(self.augment, "mixing", None):
            mixing.check(min(sampler.num_samples, self.batch_size))
        workers = self._choose_workers(data, has_work=policy is not None)
        loader = training_loader(images, sampler, self.trainer, self.batch_size, workers)
        if workers == 0 and self._can_prepare_ahead(data):
            loader.prepare = partial(self.prepare_batch, is_training=True)
        return loader.limit(self.worker_timeout_s)

    def val_dataloader(self) -> DataLoader:
        """Return a loader of all validation images, in order; batches of uint8 images and labels."""
        return self._evaluation_loader(self.splits.val)

    def test_dataloader(self) -> DataLoader:
        """Return a loader of all test images, in order; batches of uint8 images and labels."""
        return self._evaluation_loader(self.splits.test)

    def train_labels(self) -> Tensor:
        """Return the class of each training image, (N,), int64; of several labels (N, num_classes).

        Raises:
            ConfigError: The data set does not tell before its images are read.
        """
        labels = None if self.has_masks else getattr(self.splits.train, "labels", None)
        if labels is None:
            raise ConfigError(
                f"{type(self).__name__} does not list the labels of its training images; "
                "balanced classes need them: give data.sampler=random and no class weights"
            )
        return torch.as_tensor(labels)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Prepare a batch that a Trainer has moved to its device."""
        is_training = self.trainer is not None and self.trainer.training
        if isinstance(batch, PreparedBatch):
            self.batch_indices = batch.indices
        elif is_training:
            self.batch_indices = batch[2].indices if len(batch) > 2 else None
        return self.prepare_batch(batch, is_training=is_training)

    def prepare_batch(self, batch: Any, *, is_training: bool = False) -> Batch:
        """Turn a loader's batch into the network's input, on the device of the batch.

        A Trainer calls it by itself; a loop of your own calls it on each batch.

        Args:
            batch: Images, uint8, (N, C, H, W); labels, (N,) or (N, num_classes); and their random numbers,
                as a training loader gives them. Without, they are drawn from torch's random state. With
                `multi_scale` also the pixels per side that the images are resized to.
            is_training: Whether to augment.

        Returns:
            Normalised float32 images, shaped as before, and labels; where the augmentation mixes images,
            the share of each class, (N, num_classes), in place of labels.
        """
        if isinstance(batch, PreparedBatch):
            return batch.images, batch.labels
        images, labels, draws, size = (*batch, None, None)[:4]
        labels = labels.long() if self.has_masks else labels
        if self._label_map is not None:
            labels = self._label_map(labels)
        # Decoders give pixel by pixel; what follows is faster on channel by channel.
        images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if size is not None:
            images = TF.resize(images, [size, size], antialias=True)
        if self.augment is not None and is_training:
            images, labels = augment_batch(
                *(self.augment, images, labels, draws),
                num_classes=self.num_classes,
                has_masks=self.has_masks,
            )
        is_own = self.augment is None or isinstance(self.augment, Augment)
        return self.normalize(images, inplace=is_own), labels  # a foreign tensor stays as it is

    def normalize(self, images: Tensor, *, inplace: bool = False) -> Tensor:
        """Subtract mean and divide by std; images (N, C, H, W), or volumes, in [0, 1]."""
        return normalize(images, self.mean, self.std, inplace=inplace)

    def in_memory(self, images: np.ndarray | Tensor, labels: Any) -> InMemoryImages:
        """Make a data set of uint8 images (N, C, H, W), resized to image_size and converted to in_chans."""
        return fit_images(images, labels, self.image_size, self.in_chans)

    def _evaluation_loader(self, data: Dataset) -> DataLoader:
        workers = self._choose_workers(data)
        loader = evaluation_loader(data, self.trainer, self.batch_size, workers)
        return loader.limit(self.worker_timeout_s)

    def _can_prepare_ahead(self, data: Dataset) -> bool:
        """Tell whether several training batches are prepared as one, which changes none of their images."""
        if self.trainer is None or self.trainer.strategy.root_device.type != "cpu":
            return False
        is_own = type(self).prepare_batch is ImageDataModule.prepare_batch
        is_small = isinstance(data, InMemoryImages) and data.images[0].numel() <= MAX_VALUES
        return is_own and is_small and is_by_image(self.augment) and self.multi_scale is None

    def _choose_workers(self, data: Dataset, has_work: bool = False) -> int:
        if self.num_workers is not None:
            return self.num_workers
        if isinstance(data, InMemoryImages) and not has_work:
            return 0
        # Lightning's suggested_max_num_workers keeps one core of each process free: with two cores half of
        # the decoding.
        return auto_workers(self.trainer.num_devices if self.trainer else 1)
