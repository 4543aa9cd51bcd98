// The numba kernels' algorithm in C++ for float32 and whole blocks of 16 channels, to compare with.
// Built by benchmarks/selective_scan.py; takes the same record (backends/numba/call.py).
#include <atomic>
#include <cstdint>
#include <cstring>
#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

typedef float V __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(64)));
typedef int64_t i64;

struct Sequence { char *data; i64 batch, step, kind; };
struct Call {
    Sequence u, delta, B, C, y, grad_y, grad_u, grad_delta, grad_B, grad_C;
    float *first_state, *last_state, *saved;
    float *A, *D, *delta_bias, *grad_A, *grad_D, *grad_bias;
    i64 batch, length, dim, d_state, groups, softplus;
    char *scratch;
    i64 scratch_bytes;
    std::atomic<i64> next_task, next_worker;
};
// Arrays of one vector per step, at distances that are no multiples of a page.
enum { ARRAY = 129 * 16, STEPS = 0, DELTA_U = ARRAY, INPUTS = 2 * ARRAY, GRADS = 3 * ARRAY, SLOPES = 4 * ARRAY,
       GRAD_DELTA_U = 5 * ARRAY, GRAD_EXPONENTS = 6 * ARRAY, DECAYS = 7 * ARRAY, STATES = 8 * ARRAY, ARRAYS = 9 * ARRAY };

static const float MAGIC = 1.5f * (1 << 23) + 127, LN2 = 0.69314718f, LOG2E = 1.44269502f;
static const i64 LONG = 256;
static inline V splat(float x) { return x - (V){}; }
static inline V load(const float *p) { return *(const V *)p; }
static inline void store(float *p, V x) { *(V *)p = x; }
static inline float *at(const Sequence &s, i64 b, i64 t, i64 c) {
    return (float *)(s.data + b * s.batch + t * s.step) + c;
}
static inline float sum(V x) {
    float f[16];
    std::memcpy(f, &x, 64);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) f[i] += f[i + width];
    return f[0];
}

static inline V exp2_of_fraction(V f) {
    V p = splat(1.53533620e-4f);
    p = p * f + 1.33988750e-3f;
    p = p * f + 9.61843692e-3f;
    p = p * f + 5.55033237e-2f;
    p = p * f + 0.240226477f;
    p = p * f + 0.693147182f;
    return p * f + 1.0f;
}
#ifdef __AVX512DQ__
static inline V exp2_of_product(V a, V b, float rest = 0) {
    V x = a * b, f = (V)_mm512_reduce_ps((__m512)x, 8), k = x - f;
    if (rest) f += (a * b - x) + a * rest;
    return (V)_mm512_scalef_ps((__m512)exp2_of_fraction(f), (__m512)k);
}
#else
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
    V scale;
    std::memcpy(&scale, &bits, 64);
    return exp2_of_fraction(f) * scale;
}
#endif
static inline V exp_of_minus_abs(V x) {
    V minus = x < 0.0f ? x : -x;
    minus = minus < -87.0f ? splat(-87) : minus;
    return exp2_of_product(minus, splat(LOG2E), 1.92596303e-8f);
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
        for (i64 k = 0; k < n; k++, to += 2) *to = at(s, b, t0 + t, 0)[k];
}
static void read_states(const float *from, i64 dim, i64 n, float *to) {
    for (i64 i = 0; i < dim; i++)
        for (i64 k = 0; k < n; k++) to[i / 16 * n * 16 + k * 16 + i % 16] = from ? from[i * n + k] : 0;
}
static void read_rates(const float *A, i64 dim, i64 n, float *to) {
    read_states(A, dim, n, to);
    for (i64 i = 0; i < dim * n; i++) {
        float rate = to[i] * LOG2E;
        to[i] = rate > 1e30f ? 1e30f : rate < -1e30f ? -1e30f : rate;
    }
}
static void write_states(const float *from, i64 dim, i64 n, float *to) {
    for (i64 i = 0; i < dim; i++)
        for (i64 k = 0; k < n; k++) to[i * n + k] = from[i / 16 * n * 16 + k * 16 + i % 16];
}
static inline V channels(const float *from, i64 c) { return from ? load(from + c) : V{}; }

template <bool is_long>
static V scan(V h, V rate, V elapsed, const float *work, const float *maps, i64 n, float *y, i64 y_step, i64 count) {
    V first = h, local = {};
    for (i64 t = 0; t < count; t++, work += 16, maps += 2 * n, y += y_step) {
        V decay = exp2_of_product(load(work + STEPS), rate), added = load(work + DELTA_U) * maps[0];
        h = decay * h + added;
        store(y, h * maps[1] + load(y));
        if (is_long) local = decay * local + added;
    }
    return is_long ? exp2_of_product(elapsed, rate) * first + local : h;
}

template <bool is_long>
static V sweep(V h, V carry, V rate, V elapsed, float *work, const float *maps, i64 n, float *sums, i64 count,
               float *grad_A) {
    for (i64 t = 0; t < count; t++, work += 16, maps += 2 * n, sums += 32 * n) {
        V decay = exp2_of_product(load(work + STEPS), rate);
        store(work + DECAYS, decay);
        store(work + STATES, h);
        h = decay * h + load(work + DELTA_U) * maps[0];
        store(sums + 16, load(work + GRADS) * h + load(sums + 16));
    }
    V last = carry, local = {}, sum_A = {};
    for (i64 t = 0; t < count; t++) {
        work -= 16, maps -= 2 * n, sums -= 32 * n;
        V decay = load(work + DECAYS), added = load(work + GRADS) * maps[1], g = added + carry;
        store(sums, g * load(work + DELTA_U) + load(sums));
        store(work + GRAD_DELTA_U, g * maps[0] + load(work + GRAD_DELTA_U));
        added *= decay;
        carry = decay * carry + added;
        if (is_long) local = decay * local + added;
        g = carry * load(work + STATES);
        sum_A += g * load(work + STEPS);
        store(work + GRAD_EXPONENTS, g * rate + load(work + GRAD_EXPONENTS));
    }
    store(grad_A, load(grad_A) + sum_A);
    return is_long ? exp2_of_product(elapsed, rate) * last + local : carry;
}

extern "C" void forward(Call *call) {
    i64 n = call->d_state, length = call->length, blocks = call->dim / 16;
    i64 chunk_steps = n < 128 ? 128 / n : 1, chunks = (length + chunk_steps - 1) / chunk_steps;
    float *work = (float *)(call->scratch + call->next_worker.fetch_add(1) * call->scratch_bytes);
    float *maps = work + ARRAYS, *rates = maps + (2 * chunk_steps * n + 15) / 16 * 16;
    float *states = rates + blocks * n * 16;
    read_rates(call->A, call->dim, n, rates);
    for (i64 task; (task = call->next_task.fetch_add(1)) < call->batch * call->groups;) {
        i64 b = task / call->groups, group = task % call->groups;
        i64 first = group * blocks / call->groups * 16, last = (group + 1) * blocks / call->groups * 16;
        i64 state_b = (b * call->dim + first) * n;
        read_states(call->first_state ? call->first_state + state_b : nullptr, last - first, n, states);
        for (i64 chunk = 0; chunk < chunks; chunk++) {
            i64 t0 = chunk * chunk_steps, count = length - t0 < chunk_steps ? length - t0 : chunk_steps;
            read_maps(call->B, b, t0, count, n, maps);
            read_maps(call->C, b, t0, count, n, maps + 1);
            for (i64 c = first; c < last; c += 16) {
                i64 next_t = c + 16 < last ? t0 : t0 + chunk_steps, next_c = c + 16 < last ? c + 16 : first;
                float *state = states + (c - first) * n, *y = at(call->y, b, t0, c);
                if (call->saved)
                    std::memcpy(call->saved + ((b * chunks + chunk) * blocks * 16 + c) * n, state, 64 * n);
                V bias = channels(call->delta_bias, c), D = channels(call->D, c), elapsed = {};
                for (i64 t = 0; t < count; t++) {
                    __builtin_prefetch(at(call->u, b, next_t + t, next_c));
                    __builtin_prefetch(at(call->delta, b, next_t + t, next_c));
                    __builtin_prefetch(at(call->y, b, next_t + t, next_c), 1);
                    V u = load(at(call->u, b, t0 + t, c)), step = load(at(call->delta, b, t0 + t, c)) + bias;
                    step = call->softplus ? softplus(step) : step;
                    elapsed += step;
                    store(work + STEPS + 16 * t, step);
                    store(work + DELTA_U + 16 * t, step * u);
                    store(at(call->y, b, t0 + t, c), D * u);
                }
                for (i64 k = 0; k < n; k++)
                    store(state + 16 * k,
                          (length > LONG ? scan<true> : scan<false>)(
                              load(state + 16 * k), load(rates + c * n + 16 * k), elapsed, work, maps + 2 * k, n, y,
                              call->y.step / 4, count));
            }
        }
        write_states(states, last - first, n, call->last_state + state_b);
    }
}

extern "C" void backward(Call *call) {
    i64 n = call->d_state, length = call->length, blocks = call->dim / 16;
    i64 chunk_steps = n < 128 ? 128 / n : 1, chunks = (length + chunk_steps - 1) / chunk_steps;
    float *work = (float *)(call->scratch + call->next_worker.fetch_add(1) * call->scratch_bytes);
    float *maps = work + ARRAYS, *sums = maps + (2 * chunk_steps * n + 15) / 16 * 16;
    float *rates = sums + 32 * chunk_steps * n + 16, *carries = rates + blocks * n * 16;
    read_rates(call->A, call->dim, n, rates);
    for (i64 task; (task = call->next_task.fetch_add(1)) < call->batch * call->groups;) {
        i64 b = task / call->groups, group = task % call->groups;
        i64 first = group * blocks / call->groups * 16, last = (group + 1) * blocks / call->groups * 16;
        i64 state_b = (b * call->dim + first) * n;
        read_states(call->first_state ? call->first_state + state_b : nullptr, last - first, n, carries);
        for (i64 chunk = chunks - 1; chunk >= 0; chunk--) {
            i64 t0 = chunk * chunk_steps, count = length - t0 < chunk_steps ? length - t0 : chunk_steps;
            read_maps(call->B, b, t0, count, n, maps);
            read_maps(call->C, b, t0, count, n, maps + 1);
            std::memset(sums, 0, 128 * chunk_steps * n);
            for (i64 c = first; c < last; c += 16) {
                i64 next_t = c + 16 < last ? t0 : t0 - chunk_steps, next_c = c + 16 < last ? c + 16 : first;
                float *carry = carries + (c - first) * n;
                const float *saved = call->saved + ((b * chunks + chunk) * blocks * 16 + c) * n;
                V bias = channels(call->delta_bias, c), D = channels(call->D, c), elapsed = {};
                for (i64 t = 0; t < count; t++) {
                    float *now = work + 16 * t;
                    __builtin_prefetch(at(call->u, b, next_t + t, next_c));
                    __builtin_prefetch(at(call->delta, b, next_t + t, next_c));
                    __builtin_prefetch(at(call->grad_y, b, next_t + t, next_c));
                    V u = load(at(call->u, b, t0 + t, c)), step = load(at(call->delta, b, t0 + t, c)) + bias;
                    store(now + SLOPES, call->softplus ? sigmoid(step) : splat(1));
                    step = call->softplus ? softplus(step) : step;
                    elapsed += step;
                    store(now + STEPS, step);
                    store(now + DELTA_U, step * u);
                    store(now + INPUTS, u);
                    store(now + GRADS, load(at(call->grad_y, b, t0 + t, c)));
                    store(now + GRAD_DELTA_U, V{});
                    store(now + GRAD_EXPONENTS, V{});
                }
                i64 channel = b * blocks * 16 + c;
                for (i64 k = 0; k < n; k++)
                    store(carry + 16 * k,
                          (length > LONG ? sweep<true> : sweep<false>)(
                              load(saved + 16 * k), load(carry + 16 * k), load(rates + c * n + 16 * k), elapsed, work,
                              maps + 2 * k, n, sums + 32 * k, count, call->grad_A + channel * n + 16 * k));
                V sum_D = {}, sum_bias = {};
                for (i64 t = 0; t < count; t++) {
                    float *now = work + 16 * t;
                    __builtin_prefetch(at(call->grad_u, b, next_t + t, next_c), 1);
                    __builtin_prefetch(at(call->grad_delta, b, next_t + t, next_c), 1);
                    V u = load(now + INPUTS), grad = load(now + GRADS), grad_delta_u = load(now + GRAD_DELTA_U);
                    sum_D += grad * u;
                    V out = (load(now + GRAD_EXPONENTS) * LN2 + grad_delta_u * u) * load(now + SLOPES);
                    sum_bias += out;
                    store(at(call->grad_u, b, t0 + t, c), D * grad + grad_delta_u * load(now + STEPS));
                    store(at(call->grad_delta, b, t0 + t, c), out);
                }
                store(call->grad_D + channel, load(call->grad_D + channel) + sum_D);
                store(call->grad_bias + channel, load(call->grad_bias + channel) + sum_bias);
            }
            for (i64 t = 0; t < count; t++)
                for (i64 k = 0; k < n; k++) {
                    const float *from = sums + 32 * (t * n + k);
                    at(call->grad_B, task, t0 + t, 0)[k] = sum(load(from));
                    at(call->grad_C, task, t0 + t, 0)[k] = sum(load(from + 16));
                }
        }
        write_states(carries, last - first, n, call->last_state + state_b);
    }
}
