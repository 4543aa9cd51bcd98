"""Run a network on images that arrive one by one, together where several wait."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from mambavision_lab.errors import reason
from mambavision_lab.models.ranking import Ranking

log = logging.getLogger(__name__)


class NetworkError(RuntimeError):
    """The network failed on a batch; the message says why."""


class _Waiting(NamedTuple):
    pixels: Tensor
    answer: "asyncio.Future[Ranking]"


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
        self._wanted, self._enough = 1, asyncio.Event()

    async def answer(self, images: Sequence[Tensor]) -> list[Ranking]:
        """Return the answers to the pixels (C, H, W) of the images of one request.

        Raises:
            NetworkError: The network failed.
        """
        loop = asyncio.get_running_loop()
        asked = [_Waiting(pixels, loop.create_future()) for pixels in images]
        self._waiting.extend(asked)
        if len(self._waiting) >= self._wanted:
            self._enough.set()
        return await asyncio.gather(*(one.answer for one in asked))

    async def run_forever(self) -> None:
        """Answer, until it is cancelled."""
        loop, last = asyncio.get_running_loop(), 1
        with ThreadPoolExecutor(1) as network:
            while True:
                taken = await self._take(last)
                if not taken:
                    continue
                last = len(taken)
                try:
                    pixels = torch.stack([one.pixels for one in taken])
                    answers = await loop.run_in_executor(network, self._run, pixels)
                    pairs = list(zip(taken, answers, strict=True))
                except Exception as error:
                    log.exception("the network failed")
                    for one in taken:
                        if not one.answer.done():
                            one.answer.set_exception(NetworkError(reason(error)))
                    continue
                for one, answer in pairs:
                    if not one.answer.done():  # cancelled by its timeout
                        one.answer.set_result(answer)

    async def _take(self, expected: int) -> list[_Waiting]:
        """Take a batch, without those whose client no longer waits."""
        await self._wait_for(1)
        if len(self._waiting) < expected:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wait_for(expected), self._wait_s)
        count = min(len(self._waiting), self._batch_size)
        taken = [self._waiting.popleft() for _ in range(count)]
        return [one for one in taken if not one.answer.done()]

    async def _wait_for(self, count: int) -> None:
        self._wanted = count
        self._enough.clear()
        if len(self._waiting) < count:
            await self._enough.wait()
