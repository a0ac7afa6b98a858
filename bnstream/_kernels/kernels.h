/* What Cython cannot say: restrict, prefetch, and the bits of half-precision numbers. */
#ifndef BNSTREAM_KERNELS_H
#define BNSTREAM_KERNELS_H
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER)
#include <intrin.h>
#define BN_RESTRICT __restrict
#else
#define BN_RESTRICT __restrict__
#endif

#if defined(__GNUC__)
#define bn_prefetch(p) __builtin_prefetch((p), 0, 3)
#elif defined(_MSC_VER) && defined(_M_X64)
#define bn_prefetch(p) _mm_prefetch((const char *)(p), _MM_HINT_T0)
#else
#define bn_prefetch(p) ((void)(p))
#endif

/* Elements as they lie in an array, at any address. */
#if defined(__GNUC__)
#define BN_ANYWHERE __attribute__((aligned(1)))
#else
#define BN_ANYWHERE
#endif
typedef float bn_f32 BN_ANYWHERE;
typedef double bn_f64 BN_ANYWHERE;
typedef int16_t bn_i16 BN_ANYWHERE;
typedef uint16_t bn_u16 BN_ANYWHERE;

typedef double *BN_RESTRICT bn_f64_out; /* written, and read through nothing else */

static inline float bn_as_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline double bn_as_double(uint64_t bits) {
    double f;
    memcpy(&f, &bits, 8);
    return f;
}

/* IEEE binary16: shift exponent and fraction into place, then scale by 2^(127-15), exact for subnormals too. */
static inline double bn_half(uint16_t h) {
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13, special = (h & 0x7c00) == 0x7c00; /* inf, NaN */
    double f = bn_as_float(special ? bits | 0x7f800000 : bits) * (special ? 1.0 : 0x1p112);
    return h & 0x8000 ? -f : f;
}

/* bfloat16: the upper half of a float32. */
static inline double bn_bfloat(uint16_t h) {
    return bn_as_float((uint32_t)h << 16);
}

static inline uint16_t bn_swap16(uint16_t v) { return (uint16_t)(v << 8 | v >> 8); }
static inline uint32_t bn_swap32(uint32_t v) { return (uint32_t)bn_swap16((uint16_t)v) << 16 | bn_swap16((uint16_t)(v >> 16)); }
static inline uint64_t bn_swap64(uint64_t v) { return (uint64_t)bn_swap32((uint32_t)v) << 32 | bn_swap32((uint32_t)(v >> 32)); }

#endif
