import pytest
import torch
from tolerances import assert_close

from mambavision_lab.exporters.plain_scan import scripted_scan, unrolled_scan
from mambavision_lab.ops.selective_scan import selective_scan


@pytest.mark.parametrize("plain", [unrolled_scan, scripted_scan])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 49, 196])
def test_plain_scan_matches_reference(plain, reverse, length):
    u, delta = torch.randn(2, 2, length, 5).unbind(0)
    A, D, bias = -torch.rand(5, 4) - 0.1, torch.randn(5), torch.randn(5)
    B, C = torch.randn(2, 2, length, 4).unbind(0)
    options = {"delta_bias": bias, "delta_softplus": True, "reverse": reverse}
    expected = selective_scan(u, delta, A, B, C, D, **options, backend="reference")
    assert_close(plain(u, delta, A, B, C, D, **options, backend="auto"), expected, torch.float32)
    without = selective_scan(u, delta, A, B, C, None, **options, backend="reference")
    assert_close(plain(u, delta, A, B, C, None, **options, backend="auto"), without, torch.float32)


def test_unrolled_scan_survives_steps_that_overflow_in_closed_form():
    u = torch.ones(1, 100, 3)
    options = {"delta_bias": torch.zeros(3), "delta_softplus": False, "reverse": False}
    inputs = (u, 30 * u, -5 * torch.ones(3, 2), torch.ones(1, 100, 2), torch.ones(1, 100, 2), None)
    y = unrolled_scan(*inputs, **options, backend="auto")
    assert_close(y, torch.full_like(y, 60.0), torch.float32)
