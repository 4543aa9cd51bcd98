import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore
from toys import HIERARCHICAL_TOY

from mambavision_lab.data.synthetic_segmentation import SyntheticVolumeSegmentationDataModule
from mambavision_lab.errors import ConfigError
from mambavision_lab.lit.mask_losses import DiceCrossEntropy
from mambavision_lab.lit.mask_metrics import MeanOverlap
from mambavision_lab.lit.segmentation import SegmentationModule
from mambavision_lab.models.segmentation import SegmentationNet


def make_batches(num=3, num_classes=4):
    masks = torch.randint(num_classes, (num, 2, 6, 5))
    return torch.randn(num, 2, num_classes, 6, 5), masks


@pytest.mark.parametrize("include_background", [False, True])
def test_metrics_are_those_of_all_pixels_together(include_background):
    logits, masks = make_batches()
    dice, miou = (MeanOverlap(name, 4, include_background) for name in ("dice", "miou"))
    theirs = DiceScore(
        4,
        include_background=include_background,
        average="macro",
        aggregation_level="global",
        input_format="index",
    )
    jaccard = MulticlassJaccardIndex(4, average=None)
    for x, y in zip(logits, masks, strict=True):
        for metric in (dice, miou):
            metric.update(x, y)
        theirs.update(x.argmax(1), y)
        jaccard.update(x, y)
    assert dice.compute() == pytest.approx(theirs.compute().item())
    wanted = jaccard.compute()[0 if include_background else 1 :].mean()
    assert miou.compute() == pytest.approx(wanted.item())


def test_class_that_is_nowhere_is_left_out_of_the_mean():
    metric = MeanOverlap("dice", 4, include_background=False)
    masks = torch.tensor([[[0, 1], [1, 2]]])  # no pixel of class 3
    logits = nn.functional.one_hot(torch.tensor([[[0, 1], [2, 2]]]), 4).movedim(-1, 1).float()
    metric.update(logits, masks)
    assert metric.compute() == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_loss_is_cross_entropy_plus_dice_of_the_classes():
    logits, masks = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    shares = logits.softmax(1)
    dice = []
    for k in (1, 2):
        y = (masks == k).float()
        overlap, total = (shares[:, k] * y).sum(), shares[:, k].sum() + y.sum()
        dice.append(1 - (2 * overlap + 1) / (total + 1))
    wanted = nn.functional.cross_entropy(logits, masks) + 0.5 * sum(dice) / 2
    assert DiceCrossEntropy(dice_weight=0.5)(logits, masks, logits) == pytest.approx(wanted.item())


def test_loss_is_in_float32_under_autocast():
    logits, masks = 30 * torch.randn(2, 3, 8, 8).bfloat16(), torch.randint(3, (2, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        loss = DiceCrossEntropy()(logits, masks, logits)
    assert loss.dtype == torch.float32
    assert loss == DiceCrossEntropy()(logits.float(), masks, logits)


def test_network_that_gives_classes_is_refused():
    module = SegmentationModule(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), num_classes=3)
    with pytest.raises(
        ConfigError, match=r"gives \(2, 3\) .* wanted|instead of logits \(2, 3, 4, 4\)"
    ):
        module(torch.zeros(2, 3, 4, 4))


@pytest.mark.slow
def test_bfloat16_is_within_a_hundredth_of_float32(tmp_path):
    dice = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        data = SyntheticVolumeSegmentationDataModule(
            num_slices=8, image_size=16, in_chans=1, num_classes=2, mean=[0.25], std=[0.28],
            num_train=64, num_val=8, num_test=32, batch_size=4,
        )  # fmt: skip
        options = {k: v for k, v in HIERARCHICAL_TOY.items() if k != "num_classes"}
        net = SegmentationNet(
            encoder="mambavision_micro",
            encoder_options={**options, "stem_stride": [1, 2, 2], "layer_scale": None},
            num_classes=2, in_chans=1, dims=3, decoder_dim=8,
        )  # fmt: skip
        module = SegmentationModule(
            net, num_classes=2, optimizer=lambda groups: torch.optim.AdamW(groups, lr=3e-3)
        )
        trainer = Trainer(
            max_epochs=8, precision=precision, accelerator="cpu", logger=False, default_root_dir=tmp_path,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
        dice[precision] = trainer.test(module, datamodule=data, verbose=False)[0]["test/dice"]
    assert dice["32-true"] > 0.9
    assert abs(dice["32-true"] - dice["bf16-mixed"]) < 0.01
