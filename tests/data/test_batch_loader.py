import multiprocessing
import signal
import time

import pytest
import torch
from torch.utils.data import TensorDataset

from mambavision_lab.data.batch_loader import BatchLoader, copy_ahead
from mambavision_lab.errors import RunError


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_batch_loader_gives_all_batches_in_each_epoch(num_workers):
    data = TensorDataset(torch.arange(10))
    loader = BatchLoader(
        data, batch_size=4, num_workers=num_workers, persistent_workers=num_workers > 0
    )
    for _ in range(2):
        assert [batch.tolist() for (batch,) in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batch_loader_knows_when_a_batch_was_asked_for():
    loader = BatchLoader(TensorDataset(torch.arange(3)))
    before = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = loader.asked_at
    assert before <= first <= time.perf_counter()
    time.sleep(0.002)
    next(batches)
    assert loader.asked_at > first + 0.001


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copy_ahead_gives_the_same_batches_on_the_gpu():
    batches = [(torch.full((64, 3, 64, 64), k).pin_memory(), "label") for k in range(20)]
    device = torch.device("cuda")
    num_given = 0
    for k, (images, label) in enumerate(copy_ahead(iter(batches), device)):
        assert images.device.type == "cuda"
        assert images.unique().tolist() == [k]
        assert label == "label"
        num_given += 1
    assert num_given == 20
    assert list(copy_ahead(iter([]), device)) == []


class Hangs(torch.utils.data.Dataset):
    """Give no image of some index."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as in a training
            time.sleep(60)
        return index


def test_worker_that_hangs_is_named_and_ended():
    loader = BatchLoader(Hangs(), batch_size=1, num_workers=2).limit(2)
    wanted = r"worker 1 of 2 gave no batch within 2 s \(batch 4 .*data\.worker_timeout_s"
    with pytest.raises(RunError, match=wanted):
        list(loader)
    assert not any(child.daemon for child in multiprocessing.active_children())
