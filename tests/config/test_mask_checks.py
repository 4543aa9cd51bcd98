import pytest
from composing import check

MASKS = "experiment=segmentation"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=synthetic_segmentation"], "data: SyntheticSegmentationDataModule is for masks"),
        (["model=segmentation"], "model: SegmentationNet is for masks"),
        (["loss=dice"], "loss: DiceCrossEntropy is for masks"),
        ([MASKS, "data=synthetic"], "data: SyntheticDataModule is for classes of images"),
        ([MASKS, "model=mambavision_nano"], "choose model=segmentation with model.encoder=NAME"),
        ([MASKS, "loss=bce"], "loss: BinaryCrossEntropy is for classes of images"),
        ([MASKS, "augment.mixup=0.2"], "augment.mixup=0.2: changes images"),
        ([MASKS, "augment=trivial"], "augment.policy="),
        ([MASKS, "augment.erasing=0.5"], "augment.erasing=0.5"),
        ([MASKS, "tta=flip"], "tta: changes"),
        ([MASKS, "callbacks.checkpoint.monitor=val/acc1"], "val/acc1"),
        ([MASKS, "data=synthetic_segmentation_3d"], "model.dims=2"),
        (
            [MASKS, "+experiment@_global_=prune", "prune.source=x"],
            "networks of masks cannot be pruned",
        ),
    ],
)
def test_part_for_another_task_is_refused(refusal, arguments, words):
    assert words in refusal(lambda: check("train", *arguments))


@pytest.mark.parametrize("arguments", [[MASKS], [MASKS, "loss=cross_entropy"]])
def test_segmentation_is_taken(arguments):
    check("train", *arguments)


def test_monitor_follows_the_task(compose):
    cfg = compose("train", MASKS, "callbacks=early_stopping")
    assert cfg.callbacks.checkpoint.monitor == "val/dice"
    assert cfg.callbacks.early_stopping.monitor == "val/dice"
    assert cfg.optimized_metric == "val/dice"
    assert compose("train").optimized_metric == "val/acc1"
