from mambavision_lab.data.synthetic import SyntheticDataModule


def labels_of(loader):
    return [labels.tolist() for _, labels in loader]


def make_loader(**resumed):
    data = SyntheticDataModule(
        image_size=8, in_chans=1, num_classes=10, mean=[0.5], std=[0.5], batch_size=8,
        num_train=40, num_val=10, num_test=10,
    )  # fmt: skip
    if resumed:
        data.resume_at(**resumed)
    return data.train_dataloader()


def test_order_is_that_of_the_resumed_epoch_before_a_trainer_sets_it():
    unbroken = make_loader()
    orders = []
    for epoch in range(4):
        unbroken.sampler.set_epoch(epoch)
        orders.append(labels_of(unbroken))
    assert orders[2] != orders[0]
    resumed = make_loader(epoch=2, num_batches=3)
    assert labels_of(resumed) == orders[2][3:]  # workers fetch before set_epoch
    resumed.sampler.set_epoch(2)
    assert labels_of(resumed) == orders[2][3:]
    assert len(resumed) == len(unbroken) == 5
    resumed.sampler.set_epoch(3)
    assert labels_of(resumed) == orders[3]
