"""A DataLoader that knows when its batches were asked for, and copies them to a GPU ahead of time."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader

from mambavision_lab.data.prepare_ahead import prepare_ahead
from mambavision_lab.errors import RunError


class BatchLoader(DataLoader):
    """A DataLoader; settings as in torch's.

    Attributes:
        device: A CUDA device to which batches are copied; with any other, batches stay as they are.
        prepare: Of training images in memory: as in `prepare_ahead`, which then gives the batches.
        asked_at: When the newest batch was asked for, by `time.perf_counter`.
    """

    device = torch.device("cpu")
    prepare: Callable[[Any], Any] | None = None
    asked_at = 0.0

    def limit(self, timeout_s: float) -> "BatchLoader":
        """Let a worker take that long for a batch, 0 for ever; returns the loader."""
        self.timeout = timeout_s if self.num_workers else 0
        return self

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Start the workers, which fetch the first batches, and iterate over batches.

        Raises:
            RunError: A worker took too long for a batch; the message names it.
        """
        if self.prepare is not None:
            return self._note_requests(prepare_ahead(self, self.prepare))
        batches = self._name_hung_worker(super().__iter__())
        if self.device.type == "cuda":
            batches = copy_ahead(batches, self.device)
        return self._note_requests(batches)

    def _name_hung_worker(self, batches: Iterator[Any]) -> Iterator[Any]:
        number = 0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    raise
                _kill_workers()
                raise RunError(
                    f"the loader's worker {number % self.num_workers} of {self.num_workers} gave no batch "
                    f"within {self.timeout:g} s (batch {number + 1} of the loader): see whether the data's "
                    "disk answers, or raise data.worker_timeout_s"
                ) from error
            yield batch
            number += 1

    def _note_requests(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            self.asked_at = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch


def _kill_workers() -> None:
    """End all loader workers of this process, which would wait for one that hangs before it ends."""
    is_handled = threading.current_thread() is threading.main_thread() and os.name == "posix"
    # torch would report those that were killed as an accident of their own.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_handled else None
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
            process.join(5)
    if is_handled:
        signal.signal(signal.SIGCHLD, handler)


def copy_ahead(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """Give batches on a CUDA device, each copied on a stream of its own while its predecessor is used.

    Args:
        batches: Of tensors in pinned memory, and what else is in them.
        device: A CUDA device.
    """
    copying = torch.cuda.Stream(device)

    def copy(batch: Any) -> Any:
        with torch.cuda.stream(copying):
            return move_data_to_device(batch, device)

    coming = (copy(batch) for batch in batches)
    ready = next(coming, None)
    while ready is not None:
        torch.cuda.current_stream(device).wait_stream(copying)
        for value in ready:
            if isinstance(value, torch.Tensor):  # its memory stays its own while it is used here
                value.record_stream(torch.cuda.current_stream(device))
        batch, ready = ready, next(coming, None)
        yield batch
