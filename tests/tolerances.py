"""The tolerances between two computations of the same, per dtype, equal on every machine."""

import torch

# Absolute and relative, for values of order one summed over up to a few hundred terms.
TOLERANCES = {
    torch.float64: {"atol": 1e-10, "rtol": 1e-10},  # order of summation only
    torch.float32: {"atol": 1e-4, "rtol": 1e-4},  # 2**-24 per operation, a few hundred of them
    torch.bfloat16: {"atol": 5e-2, "rtol": 2e-2},  # 2**-9 per rounding of inputs and outputs
    torch.float16: {"atol": 1e-2, "rtol": 2e-3},  # 2**-12 likewise
}

# Of the published networks: float32 sums over up to 2304 terms and tens of blocks in another order.
GOLDEN = 1e-4  # absolute, at full size
GOLDEN_MICRO = 2e-5  # absolute, on the micro cases, a hundredth as wide
GOLDEN_GRAD = 1e-3  # relative to its norm, of each parameter's gradient: its norm and its sum


def assert_close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """Compare two tensors at the tolerance of the dtype in which they were computed."""
    torch.testing.assert_close(actual, expected, **TOLERANCES[dtype], check_dtype=False)
