"""The loader's speed is that of its loading, with any number of workers and short epochs."""

import time

import pytest
from torch.utils.data import Dataset

from mambavision_lab import create_datamodule
from mambavision_lab.analysis.loader_speed import measure_loading, measure_preparation


class Slow(Dataset):
    """Twelve images, 2 ms each."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        time.sleep(0.002)
        return self.data[index]


@pytest.fixture
def data():
    options = {"num_train": 12, "num_val": 4, "num_test": 4, "num_classes": 4, "image_size": 8}
    return create_datamodule("synthetic", batch_size=4, **options)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_is_as_fast_as_its_images_allow(data, num_workers):
    data.splits.train = Slow(data.splits.train)
    speed = measure_loading(data, num_workers, seconds=0.15)
    most = 500 * max(1, num_workers)
    assert 0.1 * most < speed <= 1.5 * most  # other programs may slow it
    assert data.num_workers is None


def test_preparation_is_measured_without_loading(data):
    data.splits.train = Slow(data.splits.train)
    assert measure_preparation(data, seconds=0.02) > 1000
