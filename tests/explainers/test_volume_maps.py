"""Explanations of volumes and clips: maps of their size, of both families, in any order of tokens."""

import pytest
import torch
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.explainers import attention, base, scan
from mambavision_lab.explainers.features import feature_maps
from mambavision_lab.explainers.measure import area, curves
from mambavision_lab.explainers.methods import BASELINES, METHODS, explain_all
from mambavision_lab.explainers.receptive_field import receptive_field
from mambavision_lab.explainers.record import record
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.plain import PlainMambaVision

HIERARCHICAL = {**HIERARCHICAL_TOY, "in_chans": 2}
DEEP = {
    "plain": {"dims": 3, "num_slices": 6, "patch_size": [1, 4, 4]},
    "hierarchical": {"dims": 3, "stem_stride": [1, 4, 4]},
}


def make(family, **options):
    torch.manual_seed(0)
    if family == "plain":
        return PlainMambaVision(**{**TOY_OPTIONS, **options}).eval()
    return MambaVision(**{**HIERARCHICAL, **options}).eval()


@pytest.mark.parametrize("family", [*DEEP])
def test_maps_of_one_slice_are_those_of_the_image(family, tmp_path):
    pytest.importorskip("torchcam")
    pytest.importorskip("captum")
    flat = make(family)
    torch.save(flat.state_dict(), tmp_path / "flat.pt")
    deep = make(family, **DEEP[family], pretrained=str(tmp_path / "flat.pt"))
    image = torch.randn(1, 2, 64, 96)  # six cells at the last level; with two a map has no sign
    methods = [*METHODS, "centre"]
    expected = explain_all(flat, image, methods, target=1)
    found = explain_all(deep, image[:, :, None], methods, target=1)
    for method in methods:
        wanted, map_ = expected[method], found[method].map
        assert map_.shape == (1, 64, 96)
        atol = 1e-4 * float(wanted.map.max())
        torch.testing.assert_close(map_[0], wanted.map, atol=atol, rtol=1e-4, msg=method)
        assert [*found[method].layers] == [*wanted.layers]


@pytest.mark.parametrize("family", [*DEEP])
def test_maps_have_the_size_of_the_volume_and_follow_its_slices(family):
    pytest.importorskip("torchcam")
    pytest.importorskip("captum")
    net = make(family, **DEEP[family])
    volume = torch.randn(1, 2, 6, 16, 24)
    found = explain_all(net, volume, [*METHODS, *BASELINES], target=1)
    for method, explanation in found.items():
        assert explanation.map.shape == (6, 16, 24), method
        assert all(layer.shape == (6, 16, 24) for layer in explanation.layers.values())
    centre = found["centre"].map
    assert centre[2, 7, 11] == centre.max()
    last = torch.zeros(1, 2, 6, 16, 24)
    last[:, :, 5] = 1
    gradient = explain_all(net, last, ["input_x_gradient"], target=1)["input_x_gradient"].map
    assert gradient[5].any()
    assert not gradient[:5].any()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("plain", {"scan_order": "serpentine"}),
        ("plain", {**DEEP["plain"], "scan_order": "time_first"}),
        ("plain", {**DEEP["plain"], "scan_order": "time_first", "window_slices": 2}),
        ("plain", {**DEEP["plain"], "slab_slices": 2, "mamba_ratio": 1}),
        ("hierarchical", {**DEEP["hierarchical"], "scan_order": "serpentine"}),
    ],
)
def test_feature_maps_are_those_of_the_stages_in_any_order(family, options, monkeypatch):
    net = make(family, **options)
    x = torch.randn(2, 2, *(6, 16, 24)[-net.dims :])
    with torch.no_grad():
        stages = net.forward_stages(x)
    for most in (2**22, 1):  # at once, and one by one
        monkeypatch.setattr(base, "_MOST_PIXELS", most)
        maps = feature_maps(net, x)
        assert [*maps] == [info["module"] for info in net.feature_info]
        for own, stage in zip(maps.values(), stages, strict=True):
            torch.testing.assert_close(own, stage)


def test_networks_in_slabs_are_explained_as_the_whole():
    options = {**DEEP["plain"], "mamba_ratio": 1}
    whole, slabs = make("plain", **options), make("plain", **options, slab_slices=2)
    volume = torch.randn(1, 2, 6, 16, 24)
    methods = ("scan", "rollout", "eigencam")
    expected = explain_all(whole, volume, methods, target=0)
    found = explain_all(slabs, volume, methods, target=0)
    for method in methods:
        torch.testing.assert_close(found[method].map, expected[method].map)
    assert slabs.slab_slices == 2


def test_windows_of_volumes_are_put_back_where_their_tokens_are():
    net = make("hierarchical", **DEEP["hierarchical"], window_slices=2)
    seen = record(net, torch.randn(1, 2, 12, 96, 80))
    call = seen.attention[0]  # 3 x 6 x 5 tokens in windows of 2 x 4 x 4
    assert (call.layout.grid, call.layout.window) == ((3, 6, 5), (2, 4, 4))
    row = attention.row(call, (2, 5, 4)).sum(
        dim=0
    )  # in the last window, whose second slice is padding
    assert row.nonzero().tolist() == [[2, 4, 4], [2, 5, 4]]
    first = scan.row(seen.scans[0], (1, 1, 2)).abs().sum(dim=0)
    assert first[0, :4, :4].all()  # the slice before
    assert first[1, :2, :4].count_nonzero() == 7  # row 0, and row 1 up to the token itself
    assert first.count_nonzero() == 16 + 7


def test_scan_of_a_clip_time_first_takes_from_what_it_visited():
    net = make("plain", **DEEP["plain"], scan_order="time_first", window_slices=3)
    (call,) = record(net, torch.randn(1, 2, 6, 16, 16)).scans
    row = scan.row(call, (4, 0, 1)).abs().sum(dim=0)  # the second of its window's slices 3, 4, 5
    assert row.nonzero().tolist() == [[3, 0, 0], [3, 0, 1], [4, 0, 0], [4, 0, 1], [5, 0, 0]]


class Corner(torch.nn.Module):
    """Sees the corner of the first slices of a volume alone."""

    def forward(self, x):
        score = x[:, :, :2, :2, :2].sum(dim=(1, 2, 3, 4))
        return torch.stack([score, -score], dim=1)


def test_deletion_falls_where_the_map_of_a_volume_is_right(monkeypatch):
    monkeypatch.setattr(base, "_MOST_PIXELS", 200)
    right = torch.zeros(4, 4, 4)
    right[:2, :2, :2] = 1
    good, bad = (curves(Corner(), torch.ones(1, 1, 4, 4, 4), m, 0) for m in (right, 1 - right))
    assert good.deletion[2] == pytest.approx(0.5)  # an eighth of the voxels gone, the score is 0
    assert area(good.deletion) < area(bad.deletion)
    assert area(good.insertion) > area(bad.insertion)


def test_receptive_field_of_a_volume_reaches_across_slices():
    net = make("hierarchical", **DEEP["hierarchical"], window_slices=1)
    field = receptive_field(net, torch.randn(2, 2, 6, 16, 24))
    assert field.shape == (6, 16, 24)
    assert field.sum(dim=(1, 2)).count_nonzero() > 1
