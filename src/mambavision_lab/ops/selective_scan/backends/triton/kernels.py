"""The Triton kernels of the selective scan; the package's docstring has the layout.

Time is counted in the order of the scan; reversed, step t reads row length - 1 - t. Rates come multiplied
by log2(e), for exp2. Padded rates, B and C are zero, so padded states stay zero.
Triton reads this as a language of its own, and in its interpreter as Python.
"""

import triton
import triton.language as tl


@triton.jit
def _step_size(delta, SOFTPLUS: tl.constexpr):
    """Compute softplus, also where it is tiny: log1p(e) = 2 artanh(e / (2 + e)), to 2e-9 for e <= 1."""
    if SOFTPLUS:
        e = tl.exp2(-tl.abs(delta) * 1.4426950408889634)
        s = e / (2.0 + e)
        q = s * s
        series = 1.0 / 13 + q * (1.0 / 15 + q * (1.0 / 17))
        series = 1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * series))
        series = 1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * series))
        # Not maximum(delta, 0), which would turn a NaN into 0.
        delta = tl.where(delta < 0, 0.0, delta) + 2.0 * s * series
    return delta


@triton.jit
def _carry_over(elapsed, rates, first, local):
    """Return decay * first + local: a chunk's last state from its first, or in backward its first carry.

    Where the decay is nearly 1 this takes decay - 1 from its series: then only the last sum rounds at
    the size of the state, and the error of the GPU's exp2, up to 2 ulp, does not come in.
    """
    exponent = elapsed[None, :] * rates
    x = exponent * 0.6931471805599453
    series = 1.0 / 6 + x * (1.0 / 24 + x * (1.0 / 120 + x * (1.0 / 720)))
    growth = x + x * x * (0.5 + x * series)  # exp(x) - 1, to 2e-8 of exp(x) for |x| <= 1/4
    nearly_neutral = first + (growth * first + local)
    return tl.where(tl.abs(x) < 0.25, nearly_neutral, tl.exp2(exponent) * first + local)


@triton.jit
def forward_kernel(
    u_ptr,
    delta_ptr,
    rates_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    bias_ptr,
    first_state_ptr,
    y_ptr,
    last_state_ptr,
    saved_ptr,
    length,
    dim,
    u_stride_b,
    u_stride_t,
    delta_stride_b,
    delta_stride_t,
    B_stride_b,
    B_stride_t,
    C_stride_b,
    C_stride_t,
    D_STATE: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    LONG: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """Write y, the last state and, unless saved_ptr is None, the state before each chunk."""
    block = tl.program_id(0)
    sample = tl.program_id(1).to(tl.int64)
    channel = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    has_channel = channel < dim
    has_n = n < D_STATE
    tile = channel[None, :] * D_STATE + n[:, None]
    has_tile = has_n[:, None] & has_channel[None, :]
    slot = n[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    num_chunks = tl.cdiv(length, CHUNK)

    rates = tl.load(rates_ptr + tile, mask=has_tile, other=0.0)
    state_base = sample * dim * D_STATE
    state = tl.zeros([N, BLOCK], dtype=tl.float32)
    if first_state_ptr is not None:
        state = tl.load(first_state_ptr + state_base + tile, mask=has_tile, other=0.0)
    u_ptr += sample * u_stride_b
    delta_ptr += sample * delta_stride_b
    B_ptr += sample * B_stride_b
    C_ptr += sample * C_stride_b
    y_ptr += sample * length * dim
    if D_ptr is not None:
        D = tl.load(D_ptr + channel, mask=has_channel, other=0.0)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + channel, mask=has_channel, other=0.0)

    for chunk in range(0, num_chunks):
        if saved_ptr is not None:
            index = (sample * num_chunks + chunk) * tl.num_programs(0) + block
            tl.store(saved_ptr + index * (N * BLOCK) + slot, state)
        first = state
        local = tl.zeros([N, BLOCK], dtype=tl.float32)  # the state if the chunk's first were zero
        elapsed = tl.zeros([BLOCK], dtype=tl.float32)
        for t in range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, length)):
            row = tl.cast(t, tl.int64)
            if REVERSE:
                row = length - 1 - row
            u = tl.load(u_ptr + row * u_stride_t + channel, mask=has_channel, other=0.0)
            delta = tl.load(delta_ptr + row * delta_stride_t + channel, mask=has_channel, other=0.0)
            B = tl.load(B_ptr + row * B_stride_t + n, mask=has_n, other=0.0).to(tl.float32)
            C = tl.load(C_ptr + row * C_stride_t + n, mask=has_n, other=0.0).to(tl.float32)
            u = u.to(tl.float32)
            delta = delta.to(tl.float32)
            if bias_ptr is not None:
                delta += bias
            delta = _step_size(delta, SOFTPLUS)
            elapsed += delta
            decay = tl.exp2(delta[None, :] * rates)
            added = (delta * u)[None, :] * B[:, None]
            state = decay * state + added
            local = decay * local + added
            y = tl.sum(state * C[:, None], axis=0)
            if D_ptr is not None:
                y += D * u
            y_row = y_ptr + row * dim + channel
            tl.store(y_row, y.to(y_ptr.dtype.element_ty), mask=has_channel)
        if LONG:
            state = _carry_over(elapsed, rates, first, local)
    tl.store(last_state_ptr + state_base + tile, state, mask=has_tile)


@triton.jit
def backward_kernel(
    grad_y_ptr,
    grad_last_state_ptr,
    u_ptr,
    delta_ptr,
    rates_ptr,
    B_ptr,
    C_ptr,
    D_ptr,
    bias_ptr,
    saved_ptr,
    scratch_ptr,
    grad_u_ptr,
    grad_delta_ptr,
    grad_A_ptr,
    grad_B_ptr,
    grad_C_ptr,
    grad_D_ptr,
    grad_bias_ptr,
    grad_state_ptr,
    length,
    dim,
    grad_y_stride_b,
    grad_y_stride_t,
    u_stride_b,
    u_stride_t,
    delta_stride_b,
    delta_stride_t,
    B_stride_b,
    B_stride_t,
    C_stride_b,
    C_stride_t,
    D_STATE: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    LONG: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """Write the gradients of u, delta and the first state, and each program's share of the others.

    Shares of A, D and the bias are one a sample, of B and C one a block of channels; torch adds them
    up, always in the same order. scratch holds one chunk's states for each program.
    """
    block = tl.program_id(0)
    sample = tl.program_id(1).to(tl.int64)
    channel = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    has_channel = channel < dim
    has_n = n < D_STATE
    tile = channel[None, :] * D_STATE + n[:, None]
    has_tile = has_n[:, None] & has_channel[None, :]
    slot = n[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    num_chunks = tl.cdiv(length, CHUNK)

    rates = tl.load(rates_ptr + tile, mask=has_tile, other=0.0)
    state_base = sample * dim * D_STATE
    carry = tl.zeros([N, BLOCK], dtype=tl.float32)  # the gradient of a state, from later steps
    if grad_last_state_ptr is not None:
        carry = tl.load(grad_last_state_ptr + state_base + tile, mask=has_tile, other=0.0)
    grad_y_ptr += sample * grad_y_stride_b
    u_ptr += sample * u_stride_b
    delta_ptr += sample * delta_stride_b
    B_ptr += sample * B_stride_b
    C_ptr += sample * C_stride_b
    grad_u_ptr += sample * length * dim
    grad_delta_ptr += sample * length * dim
    share = (sample * tl.num_programs(0) + block) * length * D_STATE
    grad_B_ptr += share
    grad_C_ptr += share
    scratch_ptr += (sample * tl.num_programs(0) + block) * (CHUNK * N * BLOCK)
    if D_ptr is not None:
        D = tl.load(D_ptr + channel, mask=has_channel, other=0.0)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + channel, mask=has_channel, other=0.0)
    grad_A = tl.zeros([N, BLOCK], dtype=tl.float32)
    grad_D = tl.zeros([BLOCK], dtype=tl.float32)
    grad_bias = tl.zeros([BLOCK], dtype=tl.float32)

    for back in range(0, num_chunks):
        chunk = num_chunks - 1 - back
        start = chunk * CHUNK
        steps = tl.minimum(CHUNK, length - start)
        index = (sample * num_chunks + chunk) * tl.num_programs(0) + block
        state = tl.load(saved_ptr + index * (N * BLOCK) + slot)
        elapsed = tl.zeros([BLOCK], dtype=tl.float32)
        for k in range(0, steps):
            tl.store(scratch_ptr + k * (N * BLOCK) + slot, state)
            row = tl.cast(start + k, tl.int64)
            if REVERSE:
                row = length - 1 - row
            u = tl.load(u_ptr + row * u_stride_t + channel, mask=has_channel, other=0.0)
            delta = tl.load(delta_ptr + row * delta_stride_t + channel, mask=has_channel, other=0.0)
            B = tl.load(B_ptr + row * B_stride_t + n, mask=has_n, other=0.0).to(tl.float32)
            delta = delta.to(tl.float32)
            if bias_ptr is not None:
                delta += bias
            delta = _step_size(delta, SOFTPLUS)
            elapsed += delta
            delta_u = delta * u.to(tl.float32)
            state = tl.exp2(delta[None, :] * rates) * state + delta_u[None, :] * B[:, None]
        tl.debug_barrier()  # the scratch is written before another lane reads it
        last = carry  # as it enters at the chunk's last step
        local = tl.zeros(
            [N, BLOCK], dtype=tl.float32
        )  # the carry if that from later chunks were zero
        chunk_A = tl.zeros([N, BLOCK], dtype=tl.float32)
        chunk_D = tl.zeros([BLOCK], dtype=tl.float32)
        chunk_bias = tl.zeros([BLOCK], dtype=tl.float32)
        for j in range(0, steps):
            k = steps - 1 - j
            row = tl.cast(start + k, tl.int64)
            if REVERSE:
                row = length - 1 - row
            before = tl.load(scratch_ptr + k * (N * BLOCK) + slot)
            grad_y = tl.load(
                grad_y_ptr + row * grad_y_stride_t + channel, mask=has_channel, other=0.0
            ).to(tl.float32)
            u = tl.load(u_ptr + row * u_stride_t + channel, mask=has_channel, other=0.0)
            delta = tl.load(delta_ptr + row * delta_stride_t + channel, mask=has_channel, other=0.0)
            B = tl.load(B_ptr + row * B_stride_t + n, mask=has_n, other=0.0).to(tl.float32)
            C = tl.load(C_ptr + row * C_stride_t + n, mask=has_n, other=0.0).to(tl.float32)
            u = u.to(tl.float32)
            raw = delta.to(tl.float32)
            if bias_ptr is not None:
                raw += bias
            delta = _step_size(raw, SOFTPLUS)
            decay = tl.exp2(delta[None, :] * rates)
            decayed = decay * before
            delta_u = delta * u
            state = decayed + delta_u[None, :] * B[:, None]

            from_y = grad_y[None, :] * C[:, None]
            carry += from_y
            local += from_y
            grad_B = tl.sum(carry * delta_u[None, :], axis=1)
            grad_C = tl.sum(state * grad_y[None, :], axis=1)
            tl.store(grad_B_ptr + row * D_STATE + n, grad_B, mask=has_n)
            tl.store(grad_C_ptr + row * D_STATE + n, grad_C, mask=has_n)
            grad_delta_u = tl.sum(carry * B[:, None], axis=0)
            decayed *= carry  # the gradient of delta A
            chunk_A += decayed * delta[None, :]
            # rates / log2(e) is A
            grad_delta = grad_delta_u * u + tl.sum(decayed * rates, axis=0) * 0.6931471805599453
            if SOFTPLUS:
                grad_delta /= 1.0 + tl.exp2(raw * -1.4426950408889634)
            grad_u = grad_delta_u * delta
            if D_ptr is not None:
                grad_u += grad_y * D
                chunk_D += grad_y * u
            if bias_ptr is not None:
                chunk_bias += grad_delta
            at = row * dim + channel
            grad_u = grad_u.to(grad_u_ptr.dtype.element_ty)
            grad_delta = grad_delta.to(grad_delta_ptr.dtype.element_ty)
            tl.store(grad_u_ptr + at, grad_u, mask=has_channel)
            tl.store(grad_delta_ptr + at, grad_delta, mask=has_channel)
            carry *= decay
            local *= decay
        if LONG:
            carry = _carry_over(elapsed, rates, last, local)
        grad_A += chunk_A
        grad_D += chunk_D
        grad_bias += chunk_bias
        tl.debug_barrier()  # the scratch is read before the next chunk overwrites it

    tl.store(grad_A_ptr + state_base + tile, grad_A, mask=has_tile)
    tl.store(grad_state_ptr + state_base + tile, carry, mask=has_tile)
    if D_ptr is not None:
        tl.store(grad_D_ptr + sample * dim + channel, grad_D, mask=has_channel)
    if bias_ptr is not None:
        tl.store(grad_bias_ptr + sample * dim + channel, grad_bias, mask=has_channel)
