"""The implicit attention of the scan: its rows against Jacobians of the reference and the formula."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import HIERARCHICAL_TOY

from mambavision_lab.explainers import scan
from mambavision_lab.explainers.methods import explain
from mambavision_lab.explainers.record import record
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.ops.selective_scan import selective_scan


def jacobian(call):
    """Return d y[t, c] / d u[s, c] of the reference with delta, B and C fixed: (sequences, t, s, dim)."""
    total = 0
    for (u, delta, A, B, C, _), options in call.arguments:
        options = options | {"backend": "reference"}

        def run(u, fixed=(delta, A, B, C), options=options):
            return selective_scan(u, *fixed, None, **options)

        full = torch.autograd.functional.jacobian(run, u)  # (batch, t, c, batch, s, c)
        total = total + torch.einsum("btcbsc->btsc", full)
    return total


@pytest.mark.parametrize("is_bidirectional", [False, True])
def test_scan_rows_equal_jacobians_of_the_reference(make_net, is_bidirectional):
    net = make_net(bidirectional=is_bidirectional).eval()
    (call,) = record(net, torch.randn(1, 2, 16, 12)).scans
    assert len(call.arguments) == 1 + is_bidirectional
    expected = jacobian(call)[0]  # (t, s, dim)
    for t in (0, 5, 11):
        row = scan.row(call, divmod(t, 3)).flatten(1).T  # (s, dim)
        torch.testing.assert_close(row, expected[t], atol=1e-5 * expected.abs().max(), rtol=1e-5)
    weights = torch.rand(1, 12)
    pulled = scan.pulled(call, weights)[0]
    torch.testing.assert_close(pulled, (weights[0] @ expected.flatten(1)).view(12, -1).abs())


def test_scan_row_is_the_formula():
    torch.manual_seed(1)
    u, delta = torch.randn(1, 6, 2, dtype=torch.float64), torch.rand(1, 6, 2, dtype=torch.float64)
    delta[0, 2] = 0  # a token that passes by
    A = -torch.rand(2, 3, dtype=torch.float64)
    B, C = torch.randn(2, 1, 6, 3, dtype=torch.float64)
    t = 4
    weights = F.one_hot(torch.tensor([t]), 6).double()
    row = scan.pull_back((u, delta, A, B, C), {"backend": "reference"}, weights)
    for s in range(6):
        decay = torch.exp(A * delta[0, s + 1 : t + 1].sum(dim=0)[:, None])
        alpha = (C[0, t] * decay * B[0, s]).sum(dim=-1) * delta[0, s] if s <= t else torch.zeros(2)
        torch.testing.assert_close(row[0, s], alpha.double())


def test_scan_rows_of_windows_lie_where_their_tokens_are():
    net = MambaVision(**HIERARCHICAL_TOY).eval()
    call = record(net, torch.randn(1, 3, 96, 80)).scans[0]  # a map of 6 x 5, windows of 4 x 4
    assert call.layout.grid == (6, 5)
    row = scan.row(call, (1, 2)).abs().sum(dim=0)
    assert row[1, 2] > 0
    assert row[:2, :4].count_nonzero() == 7  # row 0, and row 1 up to the token itself
    assert row.count_nonzero() == 7
    assert call.layout.is_padding().sum() == 8 * 8 - 30


def test_whole_mixer_map_is_the_jacobian_with_fixed_selection():
    mixer = MambaVisionMixer(8, d_state=4, bidirectional=True, scan_backend="reference").double()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    kept = []

    def keep(*arguments, **options):
        kept.append((arguments, options))
        return selective_scan(*arguments, **options)

    mixer.scan = keep
    with torch.no_grad():
        mixer(x)
    calls = tuple(kept)

    def linear(x):
        fixed = iter(calls)

        def scanned(u, *_, **options):
            (_, *given), _ = next(fixed)
            return selective_scan(u, *given, **options)

        mixer.scan = scanned
        return mixer(x)

    full = torch.autograd.functional.jacobian(linear, x)[0, :, :, 0]  # (t, c, s, c)
    weights = torch.rand(1, 5, dtype=torch.float64)
    expected = torch.einsum("t,tcsd->sd", weights[0], full).norm(dim=-1)
    del mixer.scan
    found = scan.mixer_map(scan.ScanCall("mixer", mixer, None, x, calls), weights)
    torch.testing.assert_close(found[0], expected)
    assert "scan" not in vars(mixer)


def test_half_life_is_when_the_slowest_state_has_halved(make_net):
    (call,) = record(make_net().eval(), torch.randn(1, 2, 16, 16)).scans
    half_life, step = scan.half_lives(call), scan.step_sizes(call)
    A = call.arguments[0][0][2]
    left = torch.exp(A * (step * half_life)[..., None]).amax(dim=-1)
    torch.testing.assert_close(left, torch.full_like(left, 0.5))
    assert math.isclose(float(A.abs().min()), 1, rel_tol=1e-5)


def test_scan_of_a_network_without_mamba_is_refused(make_net, refusal):
    net = make_net(mamba_ratio=0).eval()
    message = refusal(lambda: explain(net, torch.randn(1, 2, 16, 16), "scan", 0))
    assert "no Mamba blocks" in message
