/* What Cython cannot express: restrict, prefetch, the clock, and the bits of half-precision numbers. */
#ifndef BNSTREAM_KERNELS_H
#define BNSTREAM_KERNELS_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

#if defined(_MSC_VER)
#include <intrin.h>
#define BN_RESTRICT __restrict
#else
#define BN_RESTRICT __restrict__
#endif

/* To L2: what is fetched a chunk ahead would drive the chunk itself out of L1. */
#if defined(__GNUC__)
#define BN_PREFETCH(p) __builtin_prefetch((p), 0, 2)
#elif defined(_MSC_VER) && defined(_M_X64)
#define BN_PREFETCH(p) _mm_prefetch((p), _MM_HINT_T1)
#else
#define BN_PREFETCH(p) ((void)(p))
#endif

/* Prefetch the cache lines of n bytes. */
static inline void bn_prefetch(const void *p, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += 64) BN_PREFETCH((const char *)p + i);
}

/* Seconds since some time in the past, where there are threads. */
static inline double bn_now(void) {
#if defined(_OPENMP)
    return omp_get_wtime();
#else
    return 0;
#endif
}

/* Elements of an array, at any address. */
#if defined(__GNUC__)
#define BN_ANYWHERE __attribute__((aligned(1)))
#else
#define BN_ANYWHERE
#endif
typedef float bn_f32 BN_ANYWHERE;
typedef double bn_f64 BN_ANYWHERE;
typedef int16_t bn_i16 BN_ANYWHERE;
typedef uint16_t bn_u16 BN_ANYWHERE;
typedef int32_t bn_i32 BN_ANYWHERE;
typedef uint32_t bn_u32 BN_ANYWHERE;
typedef int64_t bn_i64 BN_ANYWHERE;
typedef uint64_t bn_u64 BN_ANYWHERE;
typedef struct { bn_u16 bits; } bn_f16;     /* IEEE binary16 */
typedef struct { bn_u16 bits; } bn_bf16;    /* bfloat16 */

/* Numbers that are written and, meanwhile, accessed through no other pointer. */
typedef double *BN_RESTRICT bn_f64_out;
typedef int32_t *BN_RESTRICT bn_i32_out;
typedef uint32_t *BN_RESTRICT bn_u32_out;

static inline float bn_as_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t bn_float_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline double bn_as_double(uint64_t bits) {
    double f;
    memcpy(&f, &bits, 8);
    return f;
}

/* IEEE binary16: shift exponent and fraction into place, then scale by 2^(127-15), exact for subnormals as well. */
static inline double bn_half(uint16_t h) {
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13, special = (h & 0x7c00) == 0x7c00; /* inf, NaN */
    double f = bn_as_float(special ? bits | 0x7f800000 : bits) * (special ? 1.0 : 0x1p112);
    return h & 0x8000 ? -f : f;
}

/* bfloat16: the upper half of a float32. */
static inline double bn_bfloat(uint16_t h) {
    return bn_as_float((uint32_t)h << 16);
}

/* The bits of d rounded to odd: towards zero, with the last bit set if anything was lost. A second rounding, to 22 bits
   or fewer, then gives the same as rounding d directly. NaN stays NaN. */
static inline uint32_t bn_odd_float_bits(double d) {
    float f = (float)d;
    uint32_t bits = bn_float_bits(f);
    bits -= (f > d && d > 0) | (f < d && d < 0);
    return bits | (f != d && d == d);
}

/* Round to IEEE binary16, to nearest, ties to even. Below 2^-14, adding 0.5 rounds: its last bit is binary16's smallest
   number. */
static inline uint16_t bn_to_half(double d) {
    uint32_t bits = bn_odd_float_bits(d), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t small = bn_float_bits(bn_as_float(rest) + 0.5f) - 0x3f000000;
    uint32_t usual = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
    uint32_t half = rest < 0x38800000 ? small : usual;
    half = rest >= 0x47800000 ? 0x7c00 : half;
    return (uint16_t)(sign | (rest > 0x7f800000 ? 0x7e00 | (rest >> 13 & 0x3ff) : half));
}

/* Round to bfloat16, to nearest, ties to even. */
static inline uint16_t bn_to_bfloat(double d) {
    uint32_t bits = bn_odd_float_bits(d), rest = bits & 0x7fffffff;
    uint32_t usual = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)(rest > 0x7f800000 ? (bits >> 16 | 0x40) : usual);
}

static inline uint16_t bn_swap16(uint16_t v) { return (uint16_t)(v << 8 | v >> 8); }
static inline uint32_t bn_swap32(uint32_t v) { return (uint32_t)bn_swap16((uint16_t)v) << 16 | bn_swap16((uint16_t)(v >> 16)); }
static inline uint64_t bn_swap64(uint64_t v) { return (uint64_t)bn_swap32((uint32_t)v) << 32 | bn_swap32((uint32_t)(v >> 32)); }

#endif
