"""Costs counted on small networks, against numbers worked out by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mambavision_lab
from mambavision_lab.analysis.latency import measure
from mambavision_lab.ops.selective_scan import selective_scan
from mambavision_lab.ops.selective_scan.flops import scan_flops


def test_analysis_counts_a_convolution_and_a_linear_layer():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    total = mambavision_lab.analyze_model(net, (3, 4, 4)).total
    assert total.num_params == 8 * 27 + 8 + 128 * 5 + 5
    assert total.macs == 16 * 8 * 27 + 128 * 5
    assert total.output_shape == (1, 5)


def test_analysis_of_the_plain_family_sums_to_its_total(make_net):
    analysis = mambavision_lab.analyze_model(make_net(), (2, 16, 16))
    parts = analysis.stages[:-1]
    assert {"stem", "blocks.0", "blocks.1", "head"} <= {stage.name for stage in parts}
    assert sum(stage.macs for stage in parts) == analysis.total.macs
    assert all(stage.activation_bytes > 0 for stage in parts if stage.name.startswith("blocks"))


def test_scan_is_counted_by_its_formula():
    u, A = torch.randn(2, 7, 4), -torch.rand(4, 3)
    B = torch.randn(2, 7, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        selective_scan(u, u, A, B, B, backend="torch")
    assert counter.get_total_flops() == scan_flops(u.shape, A.shape) == 2 * 7 * 4 * 22


@pytest.mark.parametrize("shape", [(3, 4), (3, 0, 4)])
def test_analysis_refuses_shapes_that_are_no_image(shape):
    with pytest.raises(ValueError, match=r"wanted \(C, H, W\)"):
        mambavision_lab.analyze_model(nn.Conv2d(3, 8, 3), shape)


def test_latency_is_the_median_between_fastest_and_slowest(make_net):
    net = make_net().train()
    points = measure(net, 2, [16, 64], [1, 3], num_repeats=3)
    assert [(p.image_size, p.batch_size) for p in points] == [(16, 1), (16, 3), (64, 1), (64, 3)]
    for point in points:
        assert 0 < point.fastest_ms <= point.latency_ms <= point.slowest_ms
        assert point.images_per_s == pytest.approx(1e3 * point.batch_size / point.latency_ms)
    small, large = points[0], points[-1]
    assert large.peak_memory_mib > 2 * small.peak_memory_mib > 0


def test_latency_names_the_size_that_a_network_refuses(make_net):
    with pytest.raises(ValueError, match=r"^image size 16, batch 1: "):
        measure(make_net(), 3, [16], [1])  # a network of two channels
