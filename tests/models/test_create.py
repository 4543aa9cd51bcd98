import subprocess
import sys

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

import mambavision_lab
from mambavision_lab.files import configs_folder
from mambavision_lab.models import create

CREATORS = ("create_mambavision_tiny", "create_mambavision_small", "create_mambavision_base")


def build_from_config(variant, **options):
    """Build a variant on the meta device from its YAML, for 224 px and 1000 classes."""
    config = OmegaConf.load(configs_folder() / "model" / f"{variant}.yaml")
    config.update({"num_classes": 1000, "in_chans": 3, "image_size": 224})
    config.update({"scan_backend": "auto", **options})
    with torch.device("meta"):
        return instantiate(config)


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("creator", "published", "embed_dim", "depth"),
    [
        ("create_mambavision_tiny", 3.2e6, 192, 6),
        ("create_mambavision_small", 22e6, 384, 8),
        ("create_mambavision_base", 86e6, 768, 12),
    ],
)
def test_created_variant_has_published_size_and_is_that_of_its_config(
    creator, published, embed_dim, depth
):
    with torch.device("meta"):
        net = getattr(mambavision_lab, creator)()
    assert count(net) == pytest.approx(published, rel=0.05)
    assert (net.num_features, len(net.blocks), net.patch_size) == (embed_dim, depth, 16)
    # repr holds every layer with its sizes and rates.
    assert repr(net) == repr(build_from_config(creator.removeprefix("create_")))


def test_nano_has_about_half_a_million_parameters():
    net = build_from_config("mambavision_nano", num_classes=10, in_chans=1, image_size=28)
    assert 0.4e6 < count(net) < 0.65e6


@pytest.mark.parametrize("creator", CREATORS)
def test_create_passes_options_on(creator):
    with torch.device("meta"):
        net = getattr(create, creator)(num_classes=7, image_size=32, in_chans=1, depth=3)
    assert net.head.weight.shape[0] == 7
    assert net.patch_size == 4
    assert net.stem[0].weight.shape[1] == 1
    assert len(net.blocks) == 3


@pytest.mark.parametrize("creator", [*CREATORS, "create_mambavision_custom"])
def test_create_refuses_unknown_options(creator):
    with pytest.raises(TypeError, match="embed_dims"):
        getattr(create, creator)(embed_dims=3)


def test_create_finds_every_config_by_its_name():
    with torch.device("meta"):
        net = create.create_mambavision("nvidia/mambavision_s", num_classes=10)
    assert net.num_features == 8 * 96
    assert net.head.weight.shape == (10, 768)
    with pytest.raises(
        ValueError, match=r"variant='mambavision_x' is unknown; choose one of .*nvidia/"
    ):
        create.create_mambavision("mambavision_x")


def test_create_makes_maps_when_asked():
    options = {"depth": 3, "embed_dim": 24, "image_size": 32}
    net = create.create_mambavision_custom(**options, features_only=True, out_indices=(0, -1))
    assert [tuple(x.shape) for x in net(torch.randn(1, 3, 32, 32))] == [(1, 24, 8, 8)] * 2
    with torch.device("meta"):
        net = create.create_mambavision("nvidia/mambavision_t", features_only=True)
    assert [info["num_chs"] for info in net.feature_info] == [80, 160, 320, 640]
    with pytest.raises(ValueError, match=r"out_indices=\[1\] needs features_only=True"):
        create.create_mambavision_custom(**options, out_indices=[1])


def test_package_root_offers_every_creator():
    names = {*CREATORS, "create_mambavision_custom", "create_mambavision"}
    assert names == {name for name in mambavision_lab.__all__ if name.startswith("create_mamba")}
    assert names <= set(dir(mambavision_lab))
    for name in names:
        assert getattr(mambavision_lab, name) is getattr(create, name)
    with pytest.raises(AttributeError, match="no attribute 'create_mambavision_huge'"):
        _ = mambavision_lab.create_mambavision_huge


def test_package_root_imports_nothing_slow():
    slow = "{'torch', 'lightning', 'numba', 'numpy', 'omegaconf', 'timm', 'triton'}"
    code = f"import sys, mambavision_lab; dir(mambavision_lab); print({slow} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
