import random

import numpy as np
import torch

from mambavision_lab.data.augment.draws import Draws

INDICES = torch.arange(20_000)


def test_draws_of_an_image_are_the_same_in_any_batch():
    whole, part = Draws(3, 5, INDICES), Draws(3, 5, INDICES[[700, 9, 41]])
    for _ in range(3):
        assert torch.equal(whole.uniform()[[700, 9, 41]], part.uniform())
    assert torch.equal(whole.integers(-4, 4)[[700, 9, 41]], part.integers(-4, 4))


def test_draws_differ_by_seed_epoch_image_and_call():
    draws = Draws(3, 5, INDICES)
    first, second = draws.uniform(), draws.uniform()
    others = [Draws(4, 5, INDICES), Draws(3, 6, INDICES), Draws(3, 5, INDICES + 1)]
    for other in [second, *(o.uniform() for o in others)]:
        # Independent numbers: the correlation of 20,000 pairs deviates by 0.007.
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.035
    assert len(first.unique()) > 19_900


def test_draws_are_uniform_in_their_range():
    values = Draws(0, 0, INDICES).uniform(-2, 6)
    assert values.min() >= -2
    assert values.max() < 6
    counts = torch.histc(values, 10, -2, 6)
    assert (counts - 2000).abs().max() < 5 * 2000**0.5
    whole = Draws(0, 0, INDICES).integers(-1, 2)
    assert (
        whole.bincount(minlength=4) if whole.min() >= 0 else (whole + 1).bincount()
    ).tolist() == [int((whole == k).sum()) for k in (-1, 0, 1, 2)]
    assert all(abs(int((whole == k).sum()) - 5000) < 5 * 5000**0.5 for k in (-1, 0, 1, 2))


def test_draws_alternate_between_the_halves_of_the_images():
    turns = [Draws(1, epoch, INDICES).alternating() for epoch in range(3)]
    assert torch.equal(turns[0], ~turns[1])
    assert torch.equal(turns[0], turns[2])
    assert abs(int(turns[0].sum()) - 10_000) < 5 * 71


def test_draws_seed_the_libraries_for_a_block_and_put_their_states_back():
    def numbers():
        return torch.rand(()).item(), np.random.rand(), random.random()

    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = numbers()
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    with Draws(0, 1, INDICES[5:6]).seed_libraries():
        inside = numbers()
    assert numbers() == before
    with Draws(0, 1, INDICES[5:7]).seed_libraries():
        assert numbers() == inside
    with Draws(0, 1, INDICES[6:7]).seed_libraries():
        assert numbers() != inside
