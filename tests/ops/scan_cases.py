"""Arguments for the selective scan, and how a backend is compared with the reference."""

import pytest
import torch
from tolerances import TOLERANCES

from mambavision_lab.ops.selective_scan import available_backends, selective_scan
from mambavision_lab.ops.selective_scan.backends.base import ScanInputs
from mambavision_lab.ops.selective_scan.backends.registry import BACKENDS

# mamba_ssm takes too little for these; test_mamba_ssm.py has its own.
FAST = [name for name in available_backends() if name not in ("reference", "mamba_ssm")]
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias", "initial_state")
PARAMETERS = ("A", "D", "delta_bias", "initial_state")  # float32 also beside data in less
each_backend = pytest.mark.parametrize("backend", FAST)


def make_args(length, dtype=torch.float32, batch=2, dim=6, d_state=4, without=()):
    """Make random arguments by name: data in dtype, parameters in float32 (float64 with float64)."""
    args = {
        "u": torch.randn(batch, length, dim),
        "delta": torch.rand(batch, length, dim),
        "A": -torch.rand(dim, d_state) - 0.1,
        "B": torch.randn(batch, length, d_state),
        "C": torch.randn(batch, length, d_state),
        "D": torch.randn(dim),
        "delta_bias": torch.rand(dim),
        "initial_state": torch.randn(batch, dim, d_state),
    }
    wide = torch.promote_types(dtype, torch.float32)
    return {
        name: None if name in without else x.to(wide if name in PARAMETERS else dtype)
        for name, x in args.items()
    }


def as_inputs(args):
    """Bundle arguments as `selective_scan` does for a backend."""
    return ScanInputs(**args, delta_softplus=False, reverse=False)


def admit(backend, args):
    """Move the arguments to a device that the backend takes; where there is none, skip with the reason."""
    reason = None
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        moved = {name: x if x is None else x.detach().to(device) for name, x in args.items()}
        if backend == "reference":
            return moved
        reason = BACKENDS[backend].why_not(as_inputs(moved))
        if reason is None:
            return moved
    return pytest.skip(f"{backend}: {reason}")


def run(backend, args, grad_y=None, softplus=True, reverse=False, last_state=True):
    """Return y, the last state and the gradient of every argument.

    The gradients are those for grad_y and, with last_state, for a fixed gradient of the last state.
    """
    leaves = admit(backend, args)
    given = {name: x.requires_grad_() for name, x in leaves.items() if x is not None}
    y, state = selective_scan(
        **leaves, delta_softplus=softplus, return_last_state=True, reverse=reverse, backend=backend
    )
    grad_y = pattern(y) if grad_y is None else grad_y.to(y)
    outputs, grad_outputs = [y], [grad_y]
    if last_state:
        outputs, grad_outputs = [y, state], [grad_y, pattern(state)]
    grads = torch.autograd.grad(outputs, list(given.values()), grad_outputs)
    results = {"y": y.detach(), "last_state": state.detach()}
    return results | dict(zip(given, grads, strict=True))


def pattern(x):
    """Make a tensor of multiples of 1/4, exact in every dtype, shaped like x."""
    return ((torch.arange(x.numel()) * 7 % 9 - 4) / 4).reshape(x.shape).to(x)


def expect(args, **options):
    """Run the reference in float64."""
    wide = {name: x if x is None else x.double() for name, x in args.items()}
    return run("reference", wide, **options)


def assert_same(actual, expected):
    """Compare outputs and gradients, each at the tolerance of its own dtype."""
    assert actual.keys() == expected.keys()
    for name, x in actual.items():
        torch.testing.assert_close(
            x.double().cpu(),
            expected[name].double().cpu(),
            **TOLERANCES[x.dtype],
            msg=lambda text, name=name: f"{name}: {text}",
        )
