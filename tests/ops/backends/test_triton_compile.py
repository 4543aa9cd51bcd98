"""The Triton kernels through Triton's compiler and ptxas, which need no GPU."""

import re

import pytest
import torch

from mambavision_lab.ops.selective_scan.backends.triton import backend

pytest.importorskip("triton", reason="Triton has no wheel for this platform")
if backend.is_interpreted():
    pytest.skip("Triton's interpreter compiles nothing", allow_module_level=True)

OPTIONAL = {
    "forward_kernel": "D bias first_state saved",
    "backward_kernel": "grad_last_state D bias grad_D grad_bias",
}
SEQUENCES = "u delta B C y grad_y grad_u grad_delta".split()
_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@pytest.fixture
def compile_kernel(monkeypatch, tmp_path):
    """Compile a kernel from nothing for a chip of NVIDIA's; returns Triton's compiled kernel."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mambavision_lab.ops.selective_scan.backends.triton import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def compile_it(kernel, length, dtype, d_state, capability, is_full):
        function = getattr(kernels, kernel)
        options = backend.options_of(length, d_state, delta_softplus=is_full, reverse=not is_full)
        constants = dict(options)
        if not is_full:
            constants |= {f"{name}_ptr": None for name in OPTIONAL[kernel].split()}
        signature = {}
        for name in function.arg_names:
            if name in constants:
                signature[name] = "constexpr"
            elif name.endswith("_ptr"):
                is_data = name.removesuffix("_ptr") in SEQUENCES
                signature[name] = f"*{_NAMES[dtype] if is_data else 'fp32'}"
            else:
                signature[name] = "i32"
        source = ASTSource(function, signature, constants)
        target = GPUTarget("cuda", capability, 32)
        return triton.compile(source, target=target, options={"num_warps": 1})

    return compile_it


@pytest.mark.parametrize("kernel", OPTIONAL)
@pytest.mark.parametrize(
    ("length", "dtype", "d_state", "capability", "is_full"),
    [
        (49, torch.float32, 8, 80, True),
        (196, torch.float32, 8, 80, True),
        (196, torch.float32, 8, 90, True),
        (196, torch.bfloat16, 16, 90, True),
        (49, torch.float16, 8, 80, False),
        (196, torch.bfloat16, 1, 90, False),
    ],
    ids=str,
)
def test_kernels_compile_for_gpus(
    compile_kernel, kernel, length, dtype, d_state, capability, is_full
):
    compiled = compile_kernel(kernel, length, dtype, d_state, capability, is_full)
    assert f".target sm_{capability}" in compiled.asm["ptx"]
    # No atomics: equal calls give equal bits.
    assert not re.search(r"^\s*(@\S+ )?(atom|red)\.", compiled.asm["ptx"], re.MULTILINE)
    assert compiled.asm["cubin"][:4] == b"\x7fELF"
