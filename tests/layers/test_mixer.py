import math

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close

from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.ops.selective_scan import available_backends


def make_mixer(dim=20, **options):
    """Make a mixer whose every parameter has been moved from its initial value."""
    mixer = MambaVisionMixer(dim, **options)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return mixer


def mixer_by_formula(mixer, tokens):
    """Compute equations 6 to 8 of the paper, with nn.functional and a loop; the step's bias counts twice."""

    def branch(t, conv):
        return F.silu(F.conv1d(t.mT, conv.weight, padding="same", groups=t.shape[2]).mT)

    x, z = (tokens @ mixer.in_proj.weight.T).chunk(2, dim=2)
    x, z = branch(x, mixer.conv1d_x), branch(z, mixer.conv1d_z)
    dt, B, C = torch.tensor_split(
        x @ mixer.x_proj.weight.T, [mixer.dt_rank, mixer.dt_rank + mixer.d_state], dim=2
    )
    delta = F.softplus(dt @ mixer.dt_proj.weight.T + 2 * mixer.dt_proj.bias)
    h, y = torch.zeros(()), []
    for t in range(tokens.shape[1]):
        added = (delta * x)[:, t, :, None] * B[:, t, None, :]
        h = torch.exp(-delta[:, t, :, None] * mixer.A_log.exp()) * h + added
        y.append((h * C[:, t, None, :]).sum(2) + mixer.D * x[:, t])
    return torch.cat([torch.stack(y, dim=1), z], dim=2) @ mixer.out_proj.weight.T


@pytest.mark.parametrize("backend", [*available_backends(), "auto"])
@pytest.mark.parametrize(
    "options",
    [{}, {"d_state": 8, "d_conv": 3, "expand": 1}, {"expand": 1.5, "d_conv": 1, "d_state": 1}],
    ids=["default", "hierarchical", "odd"],
)
def test_mixer_matches_formula(backend, options):
    mixer = make_mixer(**options, scan_backend=backend)
    tokens = torch.randn(3, 9, 20)
    assert_close(mixer(tokens), mixer_by_formula(mixer, tokens), torch.float32)


def test_mixer_matches_formula_in_bfloat16_and_under_autocast():
    mixer = make_mixer()
    tokens = torch.randn(3, 9, 20)
    expected = mixer_by_formula(mixer, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(mixer(tokens).float(), expected, torch.bfloat16)
    assert_close(mixer.bfloat16()(tokens.bfloat16()).float(), expected, torch.bfloat16)


def test_mixer_sizes_follow_its_options():
    mixer = MambaVisionMixer(40, d_state=5, d_conv=3, expand=2)
    shapes = {name: tuple(parameter.shape) for name, parameter in mixer.named_parameters()}
    assert shapes == {
        "A_log": (40, 5),
        "D": (40,),
        "in_proj.weight": (80, 40),
        "x_proj.weight": (3 + 2 * 5, 40),
        "dt_proj.weight": (40, 3),
        "dt_proj.bias": (40,),
        "conv1d_x.weight": (40, 1, 3),
        "conv1d_z.weight": (40, 1, 3),
        "out_proj.weight": (40, 80),
    }


def test_mixer_starts_with_steps_between_their_limits():
    mixer = MambaVisionMixer(1024)
    step = F.softplus(mixer.dt_proj.bias.double())
    assert step.min() >= 1e-3 * (1 - 1e-4)
    assert step.max() <= 0.1 * (1 + 1e-4)
    # Log-uniform: half of them lie below the geometric mean, 0.01.
    assert (step < 0.01).double().mean().item() == pytest.approx(0.5, abs=0.06)
    bound = mixer.dt_rank**-0.5
    assert 0.95 * bound < mixer.dt_proj.weight.abs().max() <= bound


def test_mixer_starts_with_decay_rates_from_one_to_d_state():
    mixer = MambaVisionMixer(8, d_state=6)
    assert_close(mixer.A_log.exp(), torch.arange(1.0, 7).expand(8, 6), torch.float32)
    assert math.isclose(mixer.A_log[0, 0].item(), 0.0)
    assert (mixer.D == 1).all()


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float64,
    ],
    ids=str,
)
def test_mixer_gradient_matches_formula_for_every_parameter(dtype):
    mixer = make_mixer().to(dtype)
    tokens = torch.randn(3, 9, 20, dtype=dtype)
    inputs = [*mixer.parameters()]
    actual, expected = (
        torch.autograd.grad(y.sin().sum(), inputs)
        for y in (mixer(tokens), mixer_by_formula(mixer, tokens))
    )
    for grad, expected_grad in zip(actual, expected, strict=True):
        assert grad.abs().max() > 0
        assert_close(grad, expected_grad, dtype)


@pytest.mark.parametrize("backend", [*available_backends(), "auto"])
def test_bidirectional_mixer_adds_the_scan_from_the_other_end(backend, monkeypatch):
    both = make_mixer(bidirectional=True, scan_backend=backend)
    one = MambaVisionMixer(20)
    one.load_state_dict(both.state_dict())
    tokens = torch.randn(3, 9, 20)
    # Symmetric kernels commute with a flip, and without D the two directions are alike.
    with torch.no_grad():
        for mixer in (both, one):
            for conv in (mixer.conv1d_x, mixer.conv1d_z):
                conv.weight[:, :, 3] = 0
                conv.weight[:, :, 2] = conv.weight[:, :, 0]
            mixer.out_proj.weight[:, 20:] = 0  # the scan's half alone
            mixer.D.zero_()
        expected = one(tokens) + one(tokens.flip(1)).flip(1)
        assert_close(both(tokens), expected, torch.float32)
        skip = both(tokens)
        for mixer in (both, one):
            mixer.D.fill_(0.7)
        expected += one(tokens) - (expected - one_without_skip(one, tokens.flip(1)).flip(1))
        assert_close(both(tokens), expected, torch.float32)
        assert not torch.allclose(both(tokens), skip, atol=1e-3)


def one_without_skip(mixer, tokens):
    D = mixer.D.clone()
    mixer.D.zero_()
    y = mixer(tokens)
    mixer.D.copy_(D)
    return y
