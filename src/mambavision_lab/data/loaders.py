"""Loaders of one process's share of the images, for training and for evaluation."""

import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import Dataset

from mambavision_lab.counting import counted
from mambavision_lab.data.batch_loader import BatchLoader
from mambavision_lab.data.block_shuffle import BlockShuffle
from mambavision_lab.data.in_memory import InMemoryImages
from mambavision_lab.data.multi_scale import MultiScale, SizedBatches
from mambavision_lab.data.sampling import ResumableSampler
from mambavision_lab.data.training_images import TrainingImages, collate
from mambavision_lab.errors import ConfigError


def training_sampler(
    images: TrainingImages,
    trainer: Trainer | None,
    *,
    labels: Sequence[int] | Tensor | None,
    repeats: int,
    batch_size: int,
    multi_scale: MultiScale | None,
) -> ResumableSampler:
    """Make the order of the training images of this process, or of its batches of several sizes.

    All processes take equally many steps: the remainder is left out, other images in each epoch. Data that
    are read in blocks have these as `blocks` (see `BlockShuffle`).
    """
    share = _share_of(images, trainer)
    blocks = getattr(images.data, "blocks", None)
    per_batch = max(1, batch_size * share["num_replicas"] // repeats)  # before they are repeated
    options: dict[str, Any] = {
        "labels": labels,
        "repeats": repeats,
        "shuffle": None if blocks is None else BlockShuffle(blocks, per_batch),
        "seed": images.seed % 2**32,
        **share,
    }
    if multi_scale is None:
        return ResumableSampler(images, **options)
    return SizedBatches(images, multi_scale, batch_size, **options)


def training_loader(
    images: TrainingImages,
    sampler: ResumableSampler,
    trainer: Trainer | None,
    batch_size: int,
    num_workers: int,
) -> BatchLoader:
    """Make a loader of shuffled batches that leaves out an incomplete last one, unless it is the only one."""
    if isinstance(sampler, SizedBatches):  # which gives whole batches
        return _loader(images, sampler, trainer, None, num_workers, _identity, drop_last=False)
    drop_last = len(sampler) >= batch_size
    return _loader(images, sampler, trainer, batch_size, num_workers, _identity, drop_last)


def evaluation_loader(
    data: Dataset, trainer: Trainer | None, batch_size: int, num_workers: int
) -> BatchLoader:
    """Make a loader of all images in order; none is repeated, so that some processes have one more."""
    sampler = UnrepeatedDistributedSampler(data, shuffle=False, **_share_of(data, trainer))
    collate_fn = _identity if isinstance(data, InMemoryImages) else collate
    return _loader(data, sampler, trainer, batch_size, num_workers, collate_fn, drop_last=False)


def _share_of(data: Dataset, trainer: Trainer | None) -> dict[str, int]:
    """Return a sampler's options for this process's share of the images."""
    num_processes, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
    num_images = len(data)  # type: ignore[arg-type]
    if num_images < num_processes:
        raise ConfigError(
            f"a split of {counted(num_images, 'images')} for {num_processes} processes: each needs at least "
            "one; give more images, or fewer trainer.devices"
        )
    return {"num_replicas": num_processes, "rank": rank}


def _loader(
    data: Dataset,
    sampler: Any,
    trainer: Trainer | None,
    batch_size: int | None,
    num_workers: int,
    collate_fn: Any,
    drop_last: bool,
) -> BatchLoader:
    loader = BatchLoader(
        data,
        batch_size=batch_size,
        sampler=sampler,
        # Else the loader takes a number from torch's random state.
        generator=torch.Generator().manual_seed(torch.initial_seed()),
        drop_last=drop_last,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate_fn,
        worker_init_fn=_ignore_signals,
    )
    if trainer is not None:
        loader.device = trainer.strategy.root_device
    return loader


def _ignore_signals(worker: int) -> None:
    """Let a worker outlive the signals that a terminal or a cluster sends to all processes of a run.

    The run's own process decides when to stop, and ends its workers; a second SIGTERM ends one as well.
    """
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_next_time)


def _end_next_time(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


def _identity(batch: Any) -> Any:
    return batch
