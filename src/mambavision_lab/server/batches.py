"""Run a network on images that arrive one by one, together where several wait."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from mambavision_lab.errors import reason
from mambavision_lab.models.ranking import Ranking

log = logging.getLogger(__name__)


class NetworkError(RuntimeError):
    """The network failed on a batch; the message says why."""


class _Waiting:
    """The images of one request, (N, C, H, W), that no batch has taken yet, and the answers so far."""

    def __init__(self, pixels: Tensor, answer: "asyncio.Future[list[Ranking]]") -> None:
        self.pixels, self.answer = pixels, answer
        self._rankings: list[Ranking] = []
        self._num_images = len(pixels)

    def take(self, count: int) -> Tensor:
        """Take the first images, at most so many."""
        taken, self.pixels = self.pixels[:count], self.pixels[count:]
        return taken

    def add(self, rankings: list[Ranking]) -> None:
        """Add the answers to the images that were taken next."""
        self._rankings += rankings
        if len(self._rankings) == self._num_images and not self.answer.done():
            self.answer.set_result(self._rankings)

    def fail(self, error: Exception) -> None:
        """Give an error to who waits, if anyone still does."""
        if not self.answer.done():
            self.answer.set_exception(NetworkError(reason(error)))


class Batches:
    """Run the network on all images that wait, at most a batch at once, in a thread of its own.

    As many clients as were answered together will soon ask again, so it waits a little for as many; a client
    that asks alone, for as many images each time, never waits.

    Args:
        run: Maps prepared pixels (N, C, H, W) to N answers.
        batch_size: The most of them.
        wait_s: The longest wait for a batch as large as the one before.
    """

    def __init__(
        self, run: Callable[[Tensor], list[Ranking]], batch_size: int, wait_s: float
    ) -> None:
        self._run, self._batch_size, self._wait_s = run, batch_size, wait_s
        self._waiting: deque[_Waiting] = deque()
        self._num_images = 0  # that wait
        self._wanted, self._enough = 1, asyncio.Event()

    async def answer(self, pixels: Tensor) -> list[Ranking]:
        """Return the answers to the pixels (N, C, H, W) of the images of one request.

        Raises:
            NetworkError: The network failed.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(pixels, answer))
        self._num_images += len(pixels)
        if self._num_images >= self._wanted:
            self._enough.set()
        return await answer

    async def run_forever(self) -> None:
        """Answer, until it is cancelled."""
        loop, last = asyncio.get_running_loop(), 1
        with ThreadPoolExecutor(1) as network:
            while True:
                taken = await self._take(last)
                if not taken:
                    continue
                try:
                    pixels = torch.cat([images for _, images in taken])
                    last = len(pixels)
                    rankings = await loop.run_in_executor(network, self._run, pixels)
                    if len(rankings) != last:
                        raise ValueError(f"{len(rankings)} answers to {last} images")
                except Exception as error:
                    log.exception("the network failed")
                    for request, _ in taken:
                        request.fail(error)
                    continue
                for request, images in taken:
                    request.add(rankings[: len(images)])
                    rankings = rankings[len(images) :]

    async def _take(self, expected: int) -> list[tuple[_Waiting, Tensor]]:
        """Take the images of a batch, without those whose client no longer waits."""
        await self._wait_for(1)
        if self._num_images < expected:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wait_for(expected), self._wait_s)
        taken, room = [], self._batch_size
        while self._waiting and room:
            request = self._waiting[0]
            if request.answer.done():  # cancelled by its timeout, or failed
                self._num_images -= len(request.pixels)
                self._waiting.popleft()
                continue
            images = request.take(room)
            if not len(request.pixels):
                self._waiting.popleft()
            taken.append((request, images))
            self._num_images -= len(images)
            room -= len(images)
        return taken

    async def _wait_for(self, count: int) -> None:
        self._wanted = count
        self._enough.clear()
        if self._num_images < count:
            await self._enough.wait()
