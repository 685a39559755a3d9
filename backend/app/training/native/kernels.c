/* Element-wise work and softmax of a training step on a processor, each in one pass over its rows.
 *
 * Compiled on the machine that runs it (build.py), for float and for bfloat16 arrays; arithmetic is in float. Rows are
 * dealt out to OpenMP's threads in fixed pieces and each row is summed in a fixed order, so results do not depend on
 * the number of threads. Sizes are in elements; a stride is the distance of two rows. Formulas: see primitives.py.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t num;

/* e^x within 1 unit in the last place (measured from -87 to 88 in steps of 1e-5): x = n ln 2 + r, a Taylor polynomial for e^r, n into the exponent. */
static inline float exp_of(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float n = rintf(x * 1.44269504f);
    float r = fmaf(n, -0.693145752f, x);
    r = fmaf(n, -1.42860677e-6f, r);
    float p = 1.98412698e-4f;
    p = fmaf(p, r, 1.38888889e-3f);
    p = fmaf(p, r, 8.33333333e-3f);
    p = fmaf(p, r, 4.16666667e-2f);
    p = fmaf(p, r, 1.66666667e-1f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    union { uint32_t bits; float value; } two;
    two.bits = (uint32_t)((int32_t)n + 127) << 23;
    return p * two.value;
}

static inline float load_bf16(uint16_t stored) {
    union { uint32_t bits; float value; } wide;
    wide.bits = (uint32_t)stored << 16;
    return wide.value;
}

/* Round to nearest, ties to even; what is not a number stays so. */
static inline uint16_t store_bf16(float value) {
    union { float value; uint32_t bits; } wide = {value};
    uint32_t rounded = (wide.bits + 0x7fffu + ((wide.bits >> 16) & 1u)) >> 16;
    return (uint16_t)(value != value ? 0x7fc0u : rounded);
}

#define TYPE uint16_t
#define LOAD(x) load_bf16(x)
#define STORE(x) store_bf16(x)
#define NAMED(name) name##_bf16
#include "kernels_typed.h"
#undef TYPE
#undef LOAD
#undef STORE
#undef NAMED

#define TYPE float
#define LOAD(x) (x)
#define STORE(x) (x)
#define NAMED(name) name##_fp32
#include "kernels_typed.h"
