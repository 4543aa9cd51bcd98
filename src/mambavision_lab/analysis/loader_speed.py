"""Measure how many training images per second a data module loads, and prepares on the CPU."""

import time
from collections.abc import Iterator
from copy import copy

from mambavision_lab.data.base import Batch, ImageDataModule
from mambavision_lab.data.workers import auto_workers


def worker_counts(data: ImageDataModule) -> list[int]:
    """Return the numbers of workers to compare: none, and the data module's or one per core."""
    return [0, data.num_workers or auto_workers()]


def measure_loading(data: ImageDataModule, num_workers: int, seconds: float) -> float:
    """Return images per second of the training loader in its steady state.

    Each worker's first batch is not counted, and each worker gives equally many of the others.

    Args:
        data: The data module.
        num_workers: Loader processes; 0 loads in this one.
        seconds: How long to measure, at least.
    """
    loaded = copy(data)
    loaded.num_workers = num_workers
    batches = _endless(loaded)
    per_round = max(1, num_workers)
    for _ in range(per_round):
        next(batches)
    num_images, elapsed, start = 0, 0.0, time.perf_counter()
    while elapsed < seconds or not num_images:
        num_images += sum(len(next(batches)[0]) for _ in range(per_round))
        elapsed = time.perf_counter() - start
    return num_images / elapsed


def measure_preparation(data: ImageDataModule, seconds: float) -> float:
    """Return images per second that are augmented and normalised in batches, on the CPU."""
    loaded = copy(data)
    loaded.num_workers = 0
    batch = next(_endless(loaded))
    loaded.prepare_batch(batch, is_training=True)
    num_images, elapsed, start = 0, 0.0, time.perf_counter()
    while elapsed < seconds or not num_images:
        loaded.prepare_batch(batch, is_training=True)
        num_images += len(batch[0])
        elapsed = time.perf_counter() - start
    return num_images / elapsed


def _endless(data: ImageDataModule) -> Iterator[Batch]:
    loader = data.train_dataloader()
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader
        epoch += 1
