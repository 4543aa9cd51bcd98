import pytest
import torch
from toys import HIERARCHICAL_TOY

from mambavision_lab.models.segmentation import SegmentationNet

HIERARCHICAL = {k: v for k, v in HIERARCHICAL_TOY.items() if k != "num_classes"}
PLAIN = {"stem_dim": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 4}
NETS = {
    "hierarchical": ("mambavision_micro", HIERARCHICAL, (20, 28)),
    "hierarchical 3d": (
        "mambavision_micro",
        {**HIERARCHICAL, "stem_stride": [1, 2, 2]},
        (5, 18, 20),
    ),
    "plain": ("mambavision_nano", PLAIN, (16, 20)),
    "plain 3d": ("mambavision_nano_3d", {**PLAIN, "patch_size": [1, 4, 4]}, (3, 16, 16)),
    "timm": ("timm/resnet18", {}, (33, 40)),
}


@pytest.mark.parametrize("name", NETS)
def test_network_gives_logits_of_each_pixel_and_trains_all_of_itself(name):
    encoder, options, sides = NETS[name]
    net = SegmentationNet(
        encoder=encoder,
        encoder_options=options,
        num_classes=3,
        in_chans=2,
        image_size=16,
        num_slices=3 if len(sides) == 3 else None,
        dims=len(sides),
        decoder_dim=4,
    )
    logits = net(torch.randn(2, 2, *sides))
    assert logits.shape == (2, 3, *sides)
    logits.square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    assert net.no_weight_decay() <= {n for n, _ in net.named_parameters()}
    has_scan = not encoder.startswith("timm/")
    assert any(n.endswith("A_log") for n in net.no_weight_decay()) == has_scan


def test_logits_depend_on_each_pixel_itself():
    net = SegmentationNet(
        encoder="mambavision_nano", encoder_options=PLAIN, num_classes=2, image_size=16
    ).eval()
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    net(image)[0, 1, 5, 6].backward()
    assert image.grad[0, :, 5, 6].abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": "nonsense"}, "encoder=nonsense: no such model"),
        ({"encoder": "resnet50"}, "encoder=resnet50: gives no maps"),
        ({"encoder": "timm/nonsense"}, "encoder=timm/nonsense: cannot be made"),
        ({"encoder": "timm/resnet18", "dims": 3}, "choose an encoder of ours"),
    ],
)
def test_encoder_without_maps_is_refused(refusal, settings, words):
    assert words in refusal(lambda: SegmentationNet(num_classes=2, **settings))


def test_number_of_classes_below_two_is_refused():
    with pytest.raises(ValueError, match="num_classes=1"):
        SegmentationNet(encoder="mambavision_micro", num_classes=1)


def test_segmentation_models_pytorch_takes_our_networks():
    smp = pytest.importorskip("segmentation_models_pytorch")
    import mambavision_lab.timm  # noqa: F401  (registers them)

    net = smp.Unet(
        "tu-mambavision_t",
        encoder_weights=None,
        encoder_depth=5,
        in_channels=3,
        classes=2,
        decoder_channels=(32, 16, 8, 8, 4),
    ).eval()
    with torch.no_grad():
        assert net(torch.randn(1, 3, 64, 64)).shape == (1, 2, 64, 64)
