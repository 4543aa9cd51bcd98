from types import SimpleNamespace

import torch

from mambavision_lab.lit.callbacks.epoch_seed import EpochSeed


def sample(seed, epoch, rank):
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    EpochSeed(seed).on_train_epoch_start(trainer, None)
    return torch.rand(2).tolist()


def test_epoch_seed_repeats_an_epoch_and_no_other():
    cases = [(seed, epoch, rank) for seed in (0, 1) for epoch in (0, 1) for rank in (0, 1)]
    sampled = [sample(*case) for case in cases]
    assert len({tuple(values) for values in sampled}) == len(cases)
    assert [sample(*case) for case in reversed(cases)] == sampled[::-1]
