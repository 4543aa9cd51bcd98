"""Use a network and a data set of ours in a training loop of your own, without Lightning or Hydra.

python examples/plain_loop.py [epochs]
"""

import sys

import torch
import torch.nn.functional as F

from mambavision_lab import create_datamodule, create_mambavision


def main(num_epochs: int = 2, **data_options: int) -> float:
    """Train on synthetic images; returns the accuracy on the validation images."""
    torch.manual_seed(0)
    data = create_datamodule("synthetic", augment="light", **data_options)
    data.setup("fit")
    net = create_mambavision(
        "mambavision_nano", num_classes=data.num_classes, image_size=data.image_size
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    loader = data.train_dataloader()
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # another order each epoch
        for batch in loader:
            images, labels = data.prepare_batch(batch, is_training=True)  # augmented, normalised
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.3f}")

    net.eval()
    num_right = 0
    with torch.inference_mode():
        for batch in data.val_dataloader():
            images, labels = data.prepare_batch(batch)
            num_right += int((net(images).argmax(dim=1) == labels).sum())
    accuracy = num_right / len(data.splits.val)
    print(f"validation accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
