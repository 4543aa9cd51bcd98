"""Images that wait go through the network together, and each request gets its own answers."""

import asyncio
import contextlib

import pytest
import torch

from mambavision_lab.server.batches import Batches, NetworkError


def test_batches_run_together_what_waits_and_fail_alone():
    sizes = []

    def run(pixels):
        sizes.append(len(pixels))
        if pixels.max() > 90:
            raise ValueError("broken")
        return [[("class", float(x))] for x in pixels.flatten()]

    async def ask():
        batches = Batches(run, batch_size=3, wait_s=0.01)
        questions = [
            asyncio.create_task(batches.answer(torch.tensor(values)))
            for values in ([[0.0], [1.0]], [[2.0]], [[3.0]])
        ]
        await asyncio.sleep(0)
        worker = asyncio.create_task(batches.run_forever())
        answers = await asyncio.gather(*questions)
        with pytest.raises(NetworkError, match="broken"):
            await batches.answer(torch.tensor([[99.0]]))
        after = await batches.answer(torch.tensor([[1.0]]))
        worker.cancel()
        return answers, after

    answers, after = asyncio.run(ask())
    assert [ranking[0][1] for rankings in answers for ranking in rankings] == [0, 1, 2, 3]
    assert after == [[("class", 1.0)]]
    assert sizes == [3, 1, 1, 1]


def test_batches_wait_for_as_many_as_before_but_not_for_ever():
    sizes = []

    def run(pixels):
        sizes.append(len(pixels))
        return [[("class", 1.0)] for _ in pixels]

    async def ask_late(batches, delay_s):
        await asyncio.sleep(delay_s)
        return await batches.answer(torch.zeros(1, 1))

    async def ask():
        batches = Batches(run, batch_size=8, wait_s=0.2)
        pair = [asyncio.create_task(ask_late(batches, 0)) for _ in range(2)]
        await asyncio.sleep(0)
        worker = asyncio.create_task(batches.run_forever())
        await asyncio.gather(*pair)
        await asyncio.gather(ask_late(batches, 0), ask_late(batches, 0.02))  # waited for
        await ask_late(batches, 0)  # after which no second came
        worker.cancel()

    asyncio.run(ask())
    assert sizes == [2, 2, 1]


def answers_of(batch_size, requests, run, cancelled=()):
    """Ask all requests before the network first runs; returns answers or exceptions."""

    async def ask():
        batches = Batches(run, batch_size, wait_s=0.01)
        tasks = [
            asyncio.create_task(batches.answer(torch.tensor(values).float()[:, None]))
            for values in requests
        ]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.sleep(0)
        worker = asyncio.create_task(batches.run_forever())
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await batches.answer(torch.zeros(1, 1))  # nothing that came before is in its way
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
        return answers

    return asyncio.run(ask())


def test_request_that_fills_no_batch_or_several_is_answered_in_order():
    batches = []

    def run(pixels):
        batches.append(pixels.flatten().tolist())
        return [[("class", float(x))] for x in pixels.flatten()]

    requests = [[1, 2], [3, 4, 5, 6, 7], [8]]
    answers = answers_of(3, requests, run)
    assert [[ranking[0][1] for ranking in answer] for answer in answers] == requests
    assert batches == [[1, 2, 3], [4, 5, 6], [7, 8], [0]]


def test_request_whose_batch_fails_or_whose_client_left_runs_no_more():
    batches = []

    def run(pixels):
        batches.append(pixels.flatten().tolist())
        if 1 in batches[-1]:
            raise ValueError("broken")
        return [[("class", 1.0)] for _ in pixels]

    failed, left, answered = answers_of(2, [[1, 2, 3], [4, 5], [6]], run, cancelled=[1])
    assert isinstance(failed, NetworkError)
    assert isinstance(left, asyncio.CancelledError)
    assert answered == [[("class", 1.0)]]
    assert batches == [[1, 2], [6], [0]]


def test_network_that_answers_fewer_images_than_it_was_given_fails():
    (answer,) = answers_of(2, [[1, 2]], lambda pixels: [[("class", 1.0)]])
    assert isinstance(answer, NetworkError)
    assert "1 answers to 2 images" in str(answer)
