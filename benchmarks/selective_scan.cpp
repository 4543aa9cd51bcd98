// The numba kernels' algorithm in C++ for float32 and whole blocks of 16 channels, to compare with.
// Built on the spot by benchmarks/selective_scan.py; takes the same record (numba_call.py).
#include <atomic>
#include <cstdint>
#include <cstring>

typedef float V __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(64)));
typedef int64_t i64;

struct Sequence { char *data; i64 batch, step, kind; };
struct Call {
    Sequence u, delta, B, C, y, grad_y, grad_u, grad_delta, grad_B, grad_C;
    float *first_state, *last_state, *saved;
    float *rates, *D, *delta_bias, *grad_A, *grad_D, *grad_bias;
    char *scratch;
    i64 scratch_bytes;
    std::atomic<i64> *next_task, *next_worker;
    i64 batch, length, dim, d_state, groups, softplus;
};

static const float MAGIC = 1.5f * (1 << 23) + 127, LN2 = 0.69314718f;
static inline V splat(float x) { return x - (V){}; }
static inline V load(const float *p) { return *(const V *)p; }
static inline void store(float *p, V x) { *(V *)p = x; }
static inline V at(const Sequence &s, i64 b, i64 t, i64 c) {
    return load((const float *)(s.data + b * s.batch + t * s.step) + c);
}
static inline void put(const Sequence &s, i64 b, i64 t, i64 c, V x) {
    store((float *)(s.data + b * s.batch + t * s.step) + c, x);
}
static inline float sum(V x) {
    float f[16];
    std::memcpy(f, &x, 64);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) f[i] += f[i + width];
    return f[0];
}

static inline V exp2_of_product(V a, V b, float rest = 0) {
    V t = a * b + MAGIC;
    V f = a * b - (t - MAGIC) + a * rest;
    I bits, zero = {};
    std::memcpy(&bits, &t, 64);
    int32_t magic;
    std::memcpy(&magic, &MAGIC, 4);
    I low = zero + (magic - 127), high = zero + (magic + 128);
    bits = bits < low ? low : bits;
    bits = bits > high ? high : bits;
    bits <<= 23;
    V scale, p = splat(1.53533620e-4f);
    std::memcpy(&scale, &bits, 64);
    p = p * f + 1.33988750e-3f;
    p = p * f + 9.61843692e-3f;
    p = p * f + 5.55033237e-2f;
    p = p * f + 0.240226477f;
    p = p * f + 0.693147182f;
    p = p * f + 1.0f;
    return p * scale;
}
static inline V exp_of_minus_abs(V x) {
    V size = x < 0.0f ? -x : x;
    size = size > 87.0f ? splat(87) : size;
    return exp2_of_product(-size, splat(1.44269502f), 1.92596303e-8f);
}
static inline V softplus(V x) {
    static const float c[] = {0.0202045846f, -0.0576644465f, 0.106805556f, -0.153553963f, 0.196954012f,
                              -0.249585882f, 0.33330512f, -0.499999315f, 1.0f};
    V z = exp_of_minus_abs(x), p = splat(-0.00331847253f);
    for (float k : c) p = p * z + k;
    return z * p + (x > 0.0f ? x : splat(0));
}
static inline V sigmoid(V x) {
    V z = exp_of_minus_abs(x);
    return (x < 0.0f ? z : splat(1)) / (z + 1.0f);
}
static void read_maps(const Sequence &s, i64 b, i64 t0, i64 count, i64 n, float *to) {
    for (i64 t = 0; t < count; t++)
        std::memcpy(to + t * n, s.data + b * s.batch + (t0 + t) * s.step, 4 * n);
}
static void read_states(const float *from, i64 dim, i64 n, float *to) {
    for (i64 i = 0; i < dim; i++)
        for (i64 k = 0; k < n; k++) to[i / 16 * n * 16 + k * 16 + i % 16] = from ? from[i * n + k] : 0;
}
static void write_states(const float *from, i64 dim, i64 n, float *to) {
    for (i64 i = 0; i < dim; i++)
        for (i64 k = 0; k < n; k++) to[i * n + k] = from[i / 16 * n * 16 + k * 16 + i % 16];
}
static void carry_over(V elapsed, const float *rates, const float *before, const float *local, float *after,
                       i64 n) {
    for (i64 k = 0; k < n; k++)
        store(after + 16 * k, exp2_of_product(elapsed, load(rates + 16 * k)) * load(before + 16 * k)
                                  + load(local + 16 * k));
}

extern "C" void forward(Call *call) {
    i64 n = call->d_state, length = call->length, blocks = call->dim / 16;
    i64 chunk_steps = n < 128 ? 128 / n : 1, chunks = (length + chunk_steps - 1) / chunk_steps;
    float *states = (float *)(call->scratch + call->next_worker->fetch_add(1) * call->scratch_bytes);
    float *B = states + blocks * n * 16, *C = B + chunk_steps * n;
    float *inputs = C + chunk_steps * n, *steps = inputs + chunk_steps * 16;
    float *first_of_chunk = steps + chunk_steps * 16, *local = first_of_chunk + n * 16;
    for (i64 task; (task = call->next_task->fetch_add(1)) < call->batch * call->groups;) {
        i64 b = task / call->groups, group = task % call->groups;
        i64 first = group * blocks / call->groups * 16, last = (group + 1) * blocks / call->groups * 16;
        i64 state_b = (b * call->dim + first) * n;
        read_states(call->first_state ? call->first_state + state_b : nullptr, last - first, n, states);
        for (i64 chunk = 0; chunk < chunks; chunk++) {
            i64 t0 = chunk * chunk_steps, count = length - t0 < chunk_steps ? length - t0 : chunk_steps;
            read_maps(call->B, b, t0, count, n, B);
            read_maps(call->C, b, t0, count, n, C);
            for (i64 c = first; c < last; c += 16) {
                float *state = states + (c - first) * n, *rates = call->rates + c * n;
                if (call->saved)
                    std::memcpy(call->saved + ((b * chunks + chunk) * blocks * 16 + c) * n, state, 64 * n);
                V bias = load(call->delta_bias + c), D = load(call->D + c), elapsed = {};
                for (i64 t = 0; t < count; t++) {
                    store(inputs + 16 * t, at(call->u, b, t0 + t, c));
                    V step = at(call->delta, b, t0 + t, c) + bias;
                    step = call->softplus ? softplus(step) : step;
                    elapsed += step;
                    store(steps + 16 * t, step);
                }
                std::memcpy(first_of_chunk, state, 64 * n);
                std::memset(local, 0, 64 * n);
                for (i64 t = 0; t < count; t++) {
                    V u = load(inputs + 16 * t), step = load(steps + 16 * t), drive = step * u, y = D * u;
                    for (i64 k = 0; k < n; k++) {
                        V decay = exp2_of_product(step, load(rates + 16 * k));
                        V driven = drive * B[t * n + k], h = decay * load(state + 16 * k) + driven;
                        store(state + 16 * k, h);
                        store(local + 16 * k, decay * load(local + 16 * k) + driven);
                        y += h * C[t * n + k];
                    }
                    put(call->y, b, t0 + t, c, y);
                }
                carry_over(elapsed, rates, first_of_chunk, local, state, n);
            }
        }
        write_states(states, last - first, n, call->last_state + state_b);
    }
}

extern "C" void backward(Call *call) {
    i64 n = call->d_state, length = call->length, blocks = call->dim / 16;
    i64 chunk_steps = n < 128 ? 128 / n : 1, chunks = (length + chunk_steps - 1) / chunk_steps;
    i64 size = chunk_steps * n * 16;
    float *carries = (float *)(call->scratch + call->next_worker->fetch_add(1) * call->scratch_bytes);
    float *B = carries + blocks * n * 16, *C = B + chunk_steps * n, *lanes_B = C + chunk_steps * n;
    float *lanes_C = lanes_B + size, *decays = lanes_C + size, *states = decays + size;
    float *inputs = states + size + n * 16, *steps = inputs + chunk_steps * 16;
    float *slopes = steps + chunk_steps * 16, *grads = slopes + chunk_steps * 16;
    float *chunk_A = grads + chunk_steps * 16;
    float *last_of_chunk = chunk_A + n * 16, *local = last_of_chunk + n * 16;
    for (i64 task; (task = call->next_task->fetch_add(1)) < call->batch * call->groups;) {
        i64 b = task / call->groups, group = task % call->groups;
        i64 first = group * blocks / call->groups * 16, last = (group + 1) * blocks / call->groups * 16;
        i64 state_b = (b * call->dim + first) * n;
        read_states(call->first_state ? call->first_state + state_b : nullptr, last - first, n, carries);
        for (i64 chunk = chunks - 1; chunk >= 0; chunk--) {
            i64 t0 = chunk * chunk_steps, count = length - t0 < chunk_steps ? length - t0 : chunk_steps;
            read_maps(call->B, b, t0, count, n, B);
            read_maps(call->C, b, t0, count, n, C);
            std::memset(lanes_B, 0, 8 * size);
            for (i64 c = first; c < last; c += 16) {
                float *carry = carries + (c - first) * n, *rates = call->rates + c * n;
                std::memcpy(states, call->saved + ((b * chunks + chunk) * blocks * 16 + c) * n, 64 * n);
                V bias = load(call->delta_bias + c), D = load(call->D + c), elapsed = {};
                for (i64 t = 0; t < count; t++) {
                    store(inputs + 16 * t, at(call->u, b, t0 + t, c));
                    store(grads + 16 * t, at(call->grad_y, b, t0 + t, c));
                    V step = at(call->delta, b, t0 + t, c) + bias;
                    store(slopes + 16 * t, call->softplus ? sigmoid(step) : splat(1));
                    step = call->softplus ? softplus(step) : step;
                    elapsed += step;
                    store(steps + 16 * t, step);
                }
                for (i64 t = 0; t < count; t++) {
                    V step = load(steps + 16 * t), grad = load(grads + 16 * t);
                    V drive = step * load(inputs + 16 * t);
                    for (i64 k = 0; k < n; k++) {
                        i64 i = 16 * (t * n + k);
                        V decay = exp2_of_product(step, load(rates + 16 * k));
                        V h = decay * load(states + i) + drive * B[t * n + k];
                        store(decays + i, decay);
                        store(states + i + 16 * n, h);
                        store(lanes_C + i, load(lanes_C + i) + grad * h);
                    }
                }
                std::memset(chunk_A, 0, 64 * n);
                std::memcpy(last_of_chunk, carry, 64 * n);
                std::memset(local, 0, 64 * n);
                V sum_D = {}, sum_bias = {};
                for (i64 t = count - 1; t >= 0; t--) {
                    V u = load(inputs + 16 * t), step = load(steps + 16 * t), grad = load(grads + 16 * t);
                    V drive = step * u, grad_drive = {}, grad_exponent = {};
                    for (i64 k = 0; k < n; k++) {
                        i64 i = 16 * (t * n + k);
                        V decay = load(decays + i), g = grad * C[t * n + k] + load(carry + 16 * k);
                        store(local + 16 * k, decay * (grad * C[t * n + k] + load(local + 16 * k)));
                        store(lanes_B + i, load(lanes_B + i) + g * drive);
                        grad_drive += g * B[t * n + k];
                        g *= decay;
                        store(carry + 16 * k, g);
                        g *= load(states + i);
                        store(chunk_A + 16 * k, load(chunk_A + 16 * k) + g * step);
                        grad_exponent += g * load(rates + 16 * k);
                    }
                    sum_D += grad * u;
                    put(call->grad_u, b, t0 + t, c, D * grad + grad_drive * step);
                    V out = (grad_exponent * LN2 + grad_drive * u) * load(slopes + 16 * t);
                    sum_bias += out;
                    put(call->grad_delta, b, t0 + t, c, out);
                }
                carry_over(elapsed, rates, last_of_chunk, local, carry, n);
                i64 channel = b * blocks * 16 + c;
                for (i64 k = 0; k < n; k++) {
                    float *to = call->grad_A + channel * n + 16 * k;
                    store(to, load(to) + load(chunk_A + 16 * k));
                }
                store(call->grad_D + channel, load(call->grad_D + channel) + sum_D);
                store(call->grad_bias + channel, load(call->grad_bias + channel) + sum_bias);
            }
            for (i64 t = 0; t < count; t++)
                for (i64 k = 0; k < n; k++) {
                    i64 i = 16 * (t * n + k);
                    ((float *)(call->grad_B.data + task * call->grad_B.batch
                               + (t0 + t) * call->grad_B.step))[k] = sum(load(lanes_B + i));
                    ((float *)(call->grad_C.data + task * call->grad_C.batch
                               + (t0 + t) * call->grad_C.step))[k] = sum(load(lanes_C + i));
                }
        }
        write_states(carries, last - first, n, call->last_state + state_b);
    }
}
