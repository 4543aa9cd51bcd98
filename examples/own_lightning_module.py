# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Bring your own LightningModule, or your own data
#
# The networks and data sets are ordinary torch and Lightning objects: use one of ours beside one of yours.

# %% [markdown]
# ## Your LightningModule, our network and data
#
# Our data modules augment and normalise a batch when it has been transferred to the device.

# %%
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer

from mambavision_lab import create_datamodule, create_mambavision


class CoveredQuarterTask(LightningModule):
    """Learn without labels: which quarter of an image was covered?"""

    def __init__(self):
        super().__init__()
        self.net = create_mambavision("mambavision_nano", num_classes=4, image_size=32)

    def training_step(self, batch, batch_idx):
        images, _ = batch
        quarters = torch.randint(4, (len(images),), device=images.device)
        covered = images.clone()
        half = images.shape[-1] // 2
        for image, k in zip(covered, quarters.tolist(), strict=True):
            top, left = half * (k // 2), half * (k % 2)
            image[:, top : top + half, left : left + half] = 0
        loss = F.cross_entropy(self.net(covered), quarters)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def quick_trainer(**options):
    """Make a trainer for a few steps, without files."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


data = create_datamodule("synthetic", augment="light", num_train=320, batch_size=32)
trainer = quick_trainer(max_epochs=6)
trainer.fit(CoveredQuarterTask(), datamodule=data)
loss = trainer.callback_metrics["train/loss"]
print(f"loss {loss:.3f}; without knowledge it is {torch.tensor(4.0).log():.3f}")

# %% [markdown]
# ## Your data, our classifier
#
# `ImageClassifier` takes any loader of (images, labels): here random tensors stand for yours.

# %%
from functools import partial

from torch.utils.data import DataLoader, TensorDataset

from mambavision_lab.lit.image_classifier import ImageClassifier

images, labels = torch.randn(64, 3, 32, 32), torch.randint(3, (64,))
loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True)
net = create_mambavision("mambavision_nano", num_classes=3, image_size=32)
classifier = ImageClassifier(net, num_classes=3, optimizer=partial(torch.optim.AdamW, lr=1e-3))
trainer = quick_trainer(max_epochs=2)
trainer.fit(classifier, loader)
print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})

# %% [markdown]
# To choose such a data set on the command line, put it in a project of your own: `mambavision-init NAME`.
