"""Fixtures for everything that fits a toy network."""

import functools

import pytest
import torch
from lightning.pytorch.loggers.logger import Logger
from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.lit.image_classifier import ImageClassifier


class History(Logger):
    """Keep every logged value: history["train/loss"] is the list of its values."""

    name, version = "history", 0

    def __init__(self):
        super().__init__()
        self.values = {}

    def __getitem__(self, name):
        return self.values[name]

    def log_metrics(self, metrics, step=None):
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def log_hyperparams(self, *args, **kwargs):
        pass


@pytest.fixture
def history():
    return History()


@pytest.fixture
def make_loader():
    """Make a loader of fixed random images for the toy network, in order."""

    def make(num_images=10, batch_size=4, num_classes=3, shape=(2, 16, 16)):
        images, labels = torch.randn(num_images, *shape), torch.arange(num_images) % num_classes
        return DataLoader(TensorDataset(images, labels), batch_size=batch_size)

    return make


@pytest.fixture
def make_classifier(make_net):
    """Make a classifier around the toy network, or around `net`."""

    def make(net=None, **options):
        defaults = {"num_classes": 3, "optimizer": functools.partial(torch.optim.SGD, lr=0.1)}
        return ImageClassifier(make_net() if net is None else net, **{**defaults, **options})

    return make
