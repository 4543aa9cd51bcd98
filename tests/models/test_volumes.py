"""Both families in three dimensions."""

import pytest
import torch
from tolerances import assert_close
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.errors import ConfigError
from mambavision_lab.layers.scan_order import order_tokens, restore_tokens
from mambavision_lab.models.create import create_mambavision
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision

FAMILIES = {
    "plain": (PlainMambaVision, {**TOY_OPTIONS, "drop_path_rate": 0.0}),
    "hierarchical": (MambaVision, {**HIERARCHICAL_TOY, "in_chans": 2}),
}
VOLUME = {
    "plain": {"num_slices": 6, "patch_size": [2, 4, 4]},
    "hierarchical": {"stem_stride": [1, 4, 4]},
}


def make(family, **options):
    torch.manual_seed(0)
    kind, defaults = FAMILIES[family]
    net = kind(**{**defaults, **options}).eval()
    for module in net.modules() if "pretrained" not in options else ():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.fixture(params=[*FAMILIES])
def pair(request, tmp_path):
    """A network for images, and the volumes' network that starts from its weights."""

    def call(**options):
        flat = make(request.param)
        torch.save(flat.state_dict(), tmp_path / "flat.pt")
        given = {**VOLUME[request.param], **options, "pretrained": str(tmp_path / "flat.pt")}
        return flat, make(request.param, dims=3, **given)

    return call


def test_inflated_net_gives_for_one_slice_what_the_image_gives(pair):
    flat, deep = pair()
    x = torch.randn(2, 2, 16, 16)
    slices = getattr(deep, "patch", [1])[0]  # a token thick
    with torch.no_grad():
        y = deep(x[:, :, None].expand(-1, -1, slices, -1, -1))
        torch.testing.assert_close(y, flat(x), rtol=0, atol=1e-6)


def test_inflated_net_gives_for_equal_slices_the_features_of_the_image(pair):
    flat, deep = pair(window_slices=1)
    x = torch.randn(2, 2, 16, 16)
    volume = x[:, :, None].expand(-1, -1, 6, -1, -1)
    with torch.no_grad():
        for deep_map, flat_map in zip(
            deep.forward_stages(volume), flat.forward_stages(x), strict=True
        ):
            same = flat_map[:, :, None].expand_as(deep_map)
            assert_close(deep_map, same, torch.float32)
        assert_close(deep(volume), flat(x), torch.float32)


@pytest.mark.parametrize("scan_order", ["plain", "serpentine", "space_first", "time_first"])
def test_net_of_volumes_depends_on_the_order_of_its_slices(pair, scan_order):
    _, deep = pair(scan_order=scan_order)
    x = torch.randn(2, 2, 6, 16, 24)
    with torch.no_grad():
        y, turned = deep(x), deep(x.flip(2))
    assert y.isfinite().all()
    assert (y - turned).abs().max() > 1e-6


def test_scan_orders_visit_each_token_once_along_their_path():
    tokens = torch.arange(12).reshape(1, 12, 1)  # two slices of two rows of three
    orders = {
        "plain": [*range(12)],
        "space_first": [*range(12)],
        "time_first": [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11],
        "serpentine": [0, 1, 2, 5, 4, 3, 9, 10, 11, 8, 7, 6],
    }
    for order, path in orders.items():
        ordered = order_tokens(tokens, order, (2, 2, 3))
        assert ordered.flatten().tolist() == path
        assert torch.equal(restore_tokens(ordered, order, (2, 2, 3)), tokens)
    rows = order_tokens(tokens[:, :6], "serpentine", (2, 3))
    assert rows.flatten().tolist() == [0, 1, 2, 5, 4, 3]


@pytest.mark.parametrize(
    ("sides", "patch"),
    [
        ((28, 28), (1, 4, 4)),
        ((32, 32), (1, 4, 4)),
        ((64, 64), (1, 8, 8)),
        ((128, 128), (1, 16, 16)),
        ((16, 112), (1, 16, 16)),  # a clip
        ((13, 30), (1, 2, 2)),
    ],
)
def test_tiny_net_of_volumes_has_patches_of_one_slice_that_follow_the_plane(sides, patch):
    num_slices, image_size = sides
    small = {"num_classes": 2, "in_chans": 1, "embed_dim": 6, "depth": 1, "stem_dim": 2}
    net = create_mambavision(
        "mambavision_tiny_3d", num_slices=num_slices, image_size=image_size, **small
    )
    assert (net.patch, net.window_slices) == (patch, 4)
    side = image_size // patch[2]
    assert net.pos_embed.shape == (1, 6, num_slices, side, side)
    if image_size < 64:
        assert net(torch.zeros(2, 1, num_slices, image_size, image_size)).shape == (2, 2)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("plain", {"dims": 4}, "dims=4: wanted 2"),
        (
            "plain",
            {"scan_order": "time_first"},
            "scan_order='time_first' with dims=2: choose one of plain",
        ),
        ("plain", {"dims": 3, "patch_size": [1, 4]}, r"patch_size=\[1, 4\]: wanted one value or 3"),
        (
            "plain",
            {"dims": 3, "num_slices": 7, "patch_size": 2},
            "image of 7 x 16 x 16 pixels: all sides",
        ),
        ("hierarchical", {"dims": 3, "stem_stride": [1, 3, 3]}, "stem_stride=.* is not possible"),
    ],
)
def test_net_refuses_what_does_not_fit_its_axes(family, options, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        make(family, **options)


@pytest.mark.parametrize("family", [*FAMILIES])
def test_net_refuses_inputs_of_other_axes_and_volumes_below_a_patch(family):
    with pytest.raises(ConfigError, match=r"takes images .* not volumes or clips .*model.dims=3"):
        make(family)(torch.zeros(1, 2, 8, 16, 16))
    net = make(family, dims=3)
    with pytest.raises(ConfigError, match="image of 2 x 16 x 16 pixels: all sides must be"):
        net(torch.zeros(1, 2, 2, 16, 16))


def test_weights_of_volumes_do_not_fit_a_net_of_images(tmp_path):
    torch.save(make("hierarchical", dims=3).state_dict(), tmp_path / "deep.pt")
    with pytest.raises(ConfigError, match=r"does not fit the network: .*of another shape"):
        make("hierarchical", pretrained=str(tmp_path / "deep.pt"))


def test_weights_of_images_whose_shapes_do_not_fit_are_refused_in_one_line(tmp_path):
    for family, options in (("plain", {"embed_dim": 4}), ("hierarchical", {"dim": 8})):
        torch.save(make(family, **options).state_dict(), tmp_path / "flat.pt")
        with pytest.raises(ConfigError) as caught:
            make(family, dims=3, **VOLUME[family], pretrained=str(tmp_path / "flat.pt"))
        assert "flat.pt" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_position_embedding_of_a_volume_is_interpolated_along_slices_too():
    net = make("plain", dims=3, num_slices=6, patch_size=[1, 4, 4])
    with torch.no_grad():  # a slope along the slices stays one
        slope = torch.arange(6.0)[:, None, None].expand(6, 4, 4)
        net.pos_embed.copy_(slope.expand_as(net.pos_embed))
    net.set_input_size((12, 16, 32))
    assert net.pos_embed.shape == (1, 8, 12, 4, 8)
    inner = net.pos_embed[0, 0, 1:-1, 0, 0]
    assert_close(inner, (torch.arange(1.0, 11) + 0.5) / 2 - 0.5, torch.float32)


@pytest.mark.parametrize(("mamba_ratio", "d_conv", "patch"), [(1, 4, 1), (0.5, 3, 2), (1, 3, 4)])
def test_net_computed_in_slabs_equals_the_whole(mamba_ratio, d_conv, patch):
    options = {"mamba_ratio": mamba_ratio, "d_conv": d_conv, "patch_size": [patch, 4, 4]}
    net = make("plain", dims=3, num_slices=20, **options)
    x = torch.randn(2, 2, 20, 16, 16)
    with torch.no_grad():
        whole, maps = net(x), net.forward_stages(x)
        for net.slab_slices in (1, 2, 3):
            torch.testing.assert_close(net(x), whole, rtol=0, atol=1e-5)
            torch.testing.assert_close(net.forward_stages(x), maps, rtol=0, atol=1e-5)


def test_slabs_and_windows_exclude_each_other():
    with pytest.raises(
        ValueError, match=r"slab_slices=2 with window_slices=1: .* give one of them"
    ):
        make("plain", dims=3, slab_slices=2, window_slices=1)
