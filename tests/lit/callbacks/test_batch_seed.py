import itertools
from types import SimpleNamespace

import torch

from mambavision_lab.lit.callbacks.batch_seed import BatchSeed


def sample(seed, epoch, batch, rank):
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    BatchSeed(seed).on_train_batch_start(trainer, None, None, batch)
    return torch.rand(2).tolist()


def test_batch_seed_repeats_a_batch_and_no_other():
    cases = [*itertools.product((0, 1), repeat=4)]
    sampled = [sample(*case) for case in cases]
    assert len({tuple(values) for values in sampled}) == len(cases)
    assert [sample(*case) for case in reversed(cases)] == sampled[::-1]
