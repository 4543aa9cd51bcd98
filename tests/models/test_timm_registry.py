"""Our variants in timm: registered by one import, and used by timm's own tools."""

import subprocess
import sys

import pytest
import timm
import torch

import mambavision_lab.timm  # noqa: F401  (registers)
from mambavision_lab.models.create import create_mambavision
from mambavision_lab.models.registry import VARIANTS


@pytest.mark.parametrize(
    "imports",
    [
        "import timm, mambavision_lab",
        pytest.param("import mambavision_lab.timm, timm", marks=pytest.mark.slow),
        pytest.param("import mambavision_lab, timm, mambavision_lab.timm", marks=pytest.mark.slow),
    ],
)
def test_variants_register_in_any_order(imports):
    probe = (
        "import sys, mambavision_lab\nassert not {'torch', 'timm'} & set(sys.modules)\n"
        if "mambavision_lab," in imports
        else ""
    ) + f"{imports}\nprint(*timm.list_models('*mambavision*'))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.split() == sorted(variant.name for variant in VARIANTS), done.stderr


def test_import_of_the_package_leaves_the_import_system_alone():
    probe = "import sys; b = [*sys.meta_path]; import mambavision_lab; assert sys.meta_path == b"
    subprocess.run([sys.executable, "-c", probe], check=True)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_created_network_is_that_of_our_config(variant):
    with torch.device("meta"):
        ours = create_mambavision(variant.config, 10, **variant.size_options())
        theirs = timm.create_model(variant.name, num_classes=10)
    assert {key: x.shape for key, x in theirs.state_dict().items()} == {
        key: x.shape for key, x in ours.state_dict().items()
    }
    assert repr(theirs) == repr(ours)
    assert theirs.pretrained_cfg["num_classes"] == 1000
    assert theirs.get_classifier() is theirs.get_submodule(theirs.pretrained_cfg["classifier"])
    assert isinstance(theirs.get_submodule(theirs.pretrained_cfg["first_conv"]), torch.nn.Conv2d)


def test_features_only_gives_maps_with_their_strides_and_channels():
    net = timm.create_model("mambavision_t", features_only=True, out_indices=(0, 3)).eval()
    maps = net(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(1, 80, 16, 24), (1, 640, 2, 3)]
    assert net.feature_info.channels() == [80, 640]
    assert net.feature_info.reduction() == [4, 32]


def test_image_size_and_checkpoint_reach_the_network(tmp_path):
    first = timm.create_model("mambavision_nano", num_classes=4, img_size=32, in_chans=1)
    assert first.pos_embed.shape == (1, 96, 8, 8)
    torch.save({"state_dict": first.state_dict()}, tmp_path / "weights.pth")
    options = {"num_classes": 4, "img_size": 32, "in_chans": 1}
    for given in (
        {"checkpoint_path": str(tmp_path / "weights.pth")},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}},
    ):
        again = timm.create_model("mambavision_nano", **options, **given)
        assert again.head.weight.equal(first.head.weight)


def test_variant_without_published_weights_says_so():
    with pytest.raises(ValueError, match="mambavision_tiny has no published weights; give "):
        timm.create_model("mambavision_tiny", pretrained=True)
