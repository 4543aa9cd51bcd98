"""CIFAR-100: CIFAR-10's sibling with 100 classes, through torchvision."""

from torchvision.datasets import CIFAR100

from mambavision_lab.data.cifar10 import CIFAR10DataModule


class CIFAR100DataModule(CIFAR10DataModule):
    """CIFAR-100 in memory, downloaded and verified on first use; settings as in `ImageDataModule`."""

    dataset_class = CIFAR100
