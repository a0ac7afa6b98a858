/* Vectors of BN_WIDTH doubles, which fill a register of the level: what the innermost loops compute with.

   The arithmetic uses the vector extensions of GCC and Clang. Conversions, comparisons and partial loads use intrinsics where
   the level has them: GCC 12 converts four numbers in three instructions instead of one. A compiler without the
   extensions gets "vectors" of one double. The width changes no bit. */
#ifndef BNSTREAM_VECTORS_H
#define BNSTREAM_VECTORS_H
#include "kernels.h"
#include <math.h>

#if defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define BN_WIDTH 8
#elif defined(__GNUC__) && defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#define BN_WIDTH 4
#elif defined(__GNUC__)
#define BN_WIDTH 2
#else
#define BN_WIDTH 1
#endif
#if BN_WIDTH >= 4
#include <immintrin.h>
#endif

#if BN_WIDTH > 1
#define BN_VECTOR(type) type __attribute__((vector_size(BN_WIDTH * sizeof(type))))
typedef BN_VECTOR(double) bn_vec;
typedef BN_VECTOR(float) bn_floats;
typedef BN_VECTOR(int32_t) bn_ints;
typedef BN_VECTOR(int64_t) bn_longs;
typedef BN_VECTOR(uint64_t) bn_ulongs;
#else
typedef double bn_vec;
typedef float bn_floats;
typedef int32_t bn_ints;
typedef int64_t bn_longs;
typedef uint64_t bn_ulongs;
#endif

/* Load and store a vector of doubles, at any address. */
static inline bn_vec bn_get(const double *p) {
    bn_vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void bn_put(double *p, bn_vec v) { memcpy(p, &v, sizeof v); }

static inline bn_vec bn_all(double x) { return x - (bn_vec){0}; }      /* x - 0 is x, for any x; x + 0 is not, for -0. */

/* a * b + c, rounded once. */
static inline bn_vec bn_fma(bn_vec a, bn_vec b, bn_vec c) {
#if BN_WIDTH == 8
    return (bn_vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif BN_WIDTH == 4
    return (bn_vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif BN_WIDTH == 2
    return (bn_vec){fma(a[0], b[0], c[0]), fma(a[1], b[1], c[1])};
#else
    return fma(a, b, c);
#endif
}

/* a + b and a - b, by the units that multiply: AMD's others add and convert, and would do all the work. A product with 1 is
   exact, so that no bit changes but, where both are NaN, whose sign the result has. */
#if BN_WIDTH == 8
static inline bn_vec bn_plus(bn_vec a, bn_vec b) {
    return (bn_vec)_mm512_fmadd_pd((__m512d)a, _mm512_set1_pd(1), (__m512d)b);
}
static inline bn_vec bn_minus(bn_vec a, bn_vec b) {
    return (bn_vec)_mm512_fmsub_pd((__m512d)a, _mm512_set1_pd(1), (__m512d)b);
}
#elif BN_WIDTH == 4
static inline bn_vec bn_plus(bn_vec a, bn_vec b) {
    return (bn_vec)_mm256_fmadd_pd((__m256d)a, _mm256_set1_pd(1), (__m256d)b);
}
static inline bn_vec bn_minus(bn_vec a, bn_vec b) {
    return (bn_vec)_mm256_fmsub_pd((__m256d)a, _mm256_set1_pd(1), (__m256d)b);
}
#else
static inline bn_vec bn_plus(bn_vec a, bn_vec b) { return a + b; }
static inline bn_vec bn_minus(bn_vec a, bn_vec b) { return a - b; }
#endif

/* The sum, taken in halves: equal terms added in turn would all round to the same side. */
static inline double bn_sum(bn_vec v) {
#if BN_WIDTH == 8
    __m256d four = _mm256_add_pd(_mm512_castpd512_pd256((__m512d)v), _mm512_extractf64x4_pd((__m512d)v, 1));
#elif BN_WIDTH == 4
    __m256d four = (__m256d)v;
#endif
#if BN_WIDTH >= 4
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return two[0] + two[1];
#elif BN_WIDTH == 2
    return v[0] + v[1];
#else
    return v;
#endif
}

/* The bits of doubles, as integers. */
static inline bn_longs bn_bits(bn_vec v) {
    bn_longs bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static inline bn_longs bn_get_longs(const int64_t *p) {
    bn_longs v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void bn_put_longs(int64_t *p, bn_longs v) { memcpy(p, &v, sizeof v); }

static inline int64_t bn_sum_longs(bn_longs v) {
#if BN_WIDTH > 1
    int64_t sum = 0;
    for (int i = 0; i < BN_WIDTH; i++) sum += v[i];
    return sum;
#else
    return v;
#endif
}

static inline int bn_any_set(bn_longs v) {
#if BN_WIDTH == 8
    return _mm512_test_epi64_mask((__m512i)v, (__m512i)v) != 0;
#elif BN_WIDTH == 4
    return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#elif BN_WIDTH == 2
    return (v[0] | v[1]) != 0;
#else
    return v != 0;
#endif
}

/* Conversions from and to 32 bits. */
#if BN_WIDTH == 8
static inline bn_vec bn_widen(bn_floats v) { return (bn_vec)_mm512_cvtps_pd((__m256)v); }
static inline bn_vec bn_widen_ints(bn_ints v) { return (bn_vec)_mm512_cvtepi32_pd((__m256i)v); }
static inline bn_floats bn_narrow(bn_vec v) { return (bn_floats)_mm512_cvtpd_ps((__m512d)v); }
#elif BN_WIDTH == 4
static inline bn_vec bn_widen(bn_floats v) { return (bn_vec)_mm256_cvtps_pd((__m128)v); }
static inline bn_vec bn_widen_ints(bn_ints v) { return (bn_vec)_mm256_cvtepi32_pd((__m128i)v); }
static inline bn_floats bn_narrow(bn_vec v) { return (bn_floats)_mm256_cvtpd_ps((__m256d)v); }
#elif BN_WIDTH == 2
static inline bn_vec bn_widen(bn_floats v) { return __builtin_convertvector(v, bn_vec); }
static inline bn_vec bn_widen_ints(bn_ints v) { return __builtin_convertvector(v, bn_vec); }
static inline bn_floats bn_narrow(bn_vec v) { return __builtin_convertvector(v, bn_floats); }
#else
static inline bn_vec bn_widen(bn_floats v) { return v; }
static inline bn_vec bn_widen_ints(bn_ints v) { return v; }
static inline bn_floats bn_narrow(bn_vec v) { return (float)v; }
#endif

/* Masks: a truth value per element. */
#if BN_WIDTH == 8
typedef __mmask8 bn_mask;
static inline bn_mask bn_first(ptrdiff_t n) { return (bn_mask)((1u << n) - 1); }
static inline bn_mask bn_nonzero(bn_vec v) { return _mm512_cmp_pd_mask((__m512d)v, _mm512_setzero_pd(), _CMP_NEQ_UQ); }
static inline bn_mask bn_number(bn_vec v) { return _mm512_cmp_pd_mask((__m512d)v, (__m512d)v, _CMP_ORD_Q); }
static inline bn_vec bn_keep(bn_vec v, bn_mask m) { return (bn_vec)_mm512_maskz_mov_pd(m, (__m512d)v); }
static inline int bn_any(bn_mask m) { return m != 0; }
#elif BN_WIDTH > 1
typedef bn_longs bn_mask;
static const int64_t bn_mask_of_first[2 * BN_WIDTH] = {[0 ... BN_WIDTH - 1] = -1};
static inline bn_mask bn_first(ptrdiff_t n) {
    bn_mask m;
    memcpy(&m, bn_mask_of_first + BN_WIDTH - n, sizeof m);
    return m;
}
static inline bn_mask bn_nonzero(bn_vec v) { return v != 0; }
static inline bn_mask bn_number(bn_vec v) { return v == v; }
static inline bn_vec bn_keep(bn_vec v, bn_mask m) { return (bn_vec)((bn_longs)v & m); }
static inline int bn_any(bn_mask m) {
    int64_t any = 0;
    for (int i = 0; i < BN_WIDTH; i++) any |= m[i];
    return any != 0;
}
#else
typedef int64_t bn_mask;
static inline bn_mask bn_first(ptrdiff_t n) { return -(n > 0); }
static inline bn_mask bn_nonzero(bn_vec v) { return -(v != 0); }
static inline bn_mask bn_number(bn_vec v) { return -(v == v); }
static inline bn_vec bn_keep(bn_vec v, bn_mask m) { return m ? v : 0; }
static inline int bn_any(bn_mask m) { return m != 0; }
#endif

/* Flags, which are 0 or 255: one for each element, and one for all. */
static inline bn_mask bn_flags(const uint8_t *p) {
#if BN_WIDTH == 8
    __m128i flags = _mm_loadl_epi64((const __m128i *)p);
    return (bn_mask)_mm_test_epi8_mask(flags, flags);
#elif BN_WIDTH == 4
    int32_t flags;
    memcpy(&flags, p, sizeof flags);
    return (bn_mask)_mm256_cvtepi8_epi64(_mm_cvtsi32_si128(flags));
#elif BN_WIDTH == 2
    return (bn_mask){-(int64_t)(p[0] != 0), -(int64_t)(p[1] != 0)};
#else
    return -(bn_mask)(p[0] != 0);
#endif
}

static inline bn_mask bn_flag(uint8_t flag) {
#if BN_WIDTH == 8
    return flag;
#elif BN_WIDTH == 4
    return (bn_mask)_mm256_set1_epi8((char)flag);
#else
    return -(int64_t)(flag != 0) - (bn_mask){0};
#endif
}

static inline bn_mask bn_finite(bn_vec v) { return bn_number(bn_minus(v, v)); }
static inline bn_mask bn_infinite(bn_vec v) { return bn_number(v) & ~bn_finite(v); }

/* Loads and stores of BN_WIDTH elements; each is rounded once. */
static inline bn_vec bn_load_f64(const bn_f64 *p) { return bn_get((const double *)p); }
static inline void bn_store_f64(bn_f64 *p, bn_vec v) { bn_put((double *)p, v); }

static inline bn_vec bn_load_f32(const bn_f32 *p) {
    bn_floats v;
    memcpy(&v, p, sizeof v);
    return bn_widen(v);
}

static inline void bn_store_f32(bn_f32 *p, bn_vec v) {
    bn_floats some = bn_narrow(v);
    memcpy(p, &some, sizeof some);
}

/* Stores that go around the caches, in pieces of 16 bytes, to an address that is a multiple of 16, as NumPy's arrays have.
   Before another thread reads, they must be waited for. */
#if BN_WIDTH >= 4
static inline void bn_stream(void *p, const void *v, size_t size) {
    for (size_t i = 0; i < size; i += 16)
        _mm_stream_si128((__m128i *)((char *)p + i), _mm_loadu_si128((const __m128i *)((const char *)v + i)));
}
static inline void bn_stream_f64(bn_f64 *p, bn_vec v) { bn_stream(p, &v, sizeof v); }
static inline void bn_stream_f32(bn_f32 *p, bn_vec v) {
    bn_floats some = bn_narrow(v);
    bn_stream(p, &some, sizeof some);
}
static inline void bn_stream_bytes(void *p, const void *v, ptrdiff_t size) {
    ptrdiff_t whole = size & -16;
    bn_stream(p, v, whole);
    memcpy((char *)p + whole, (const char *)v + whole, size - whole);
}
static inline void bn_wait(void) { _mm_sfence(); }
#else
static inline void bn_stream_f64(bn_f64 *p, bn_vec v) { bn_store_f64(p, v); }
static inline void bn_stream_f32(bn_f32 *p, bn_vec v) { bn_store_f32(p, v); }
static inline void bn_stream_bytes(void *p, const void *v, ptrdiff_t size) { memcpy(p, v, size); }
static inline void bn_wait(void) {}
#endif

#if BN_WIDTH >= 4
#define BN_LOAD_INTEGERS(name, type, extended)                                                                            \
    static inline bn_vec bn_load_##name(const type *p) {                                                                  \
        __m128i some = _mm_setzero_si128();                                                                               \
        memcpy(&some, p, BN_WIDTH * sizeof *p);                                                                           \
        return bn_widen_ints((bn_ints)extended(some));                                                                    \
    }
#if BN_WIDTH == 8
#define BN_EXTEND(from) _mm256_cvtep##from##_epi32
#else
#define BN_EXTEND(from) _mm_cvtep##from##_epi32
#endif
#else
#define BN_LOAD_INTEGERS(name, type, extended)                                                                            \
    static inline bn_vec bn_load_##name(const type *p) {                                                                  \
        double some[BN_WIDTH];                                                                                            \
        for (int i = 0; i < BN_WIDTH; i++) some[i] = p[i];                                                                \
        return bn_get(some);                                                                                              \
    }
#endif
BN_LOAD_INTEGERS(i8, int8_t, BN_EXTEND(i8))
BN_LOAD_INTEGERS(u8, uint8_t, BN_EXTEND(u8))
BN_LOAD_INTEGERS(i16, bn_i16, BN_EXTEND(i16))
BN_LOAD_INTEGERS(u16, bn_u16, BN_EXTEND(u16))

static inline bn_vec bn_load_i32(const bn_i32 *p) {
    bn_ints v;
    memcpy(&v, p, sizeof v);
    return bn_widen_ints(v);
}

static inline bn_vec bn_load_u32(const bn_u32 *p) {
    bn_ints v;
    memcpy(&v, p, sizeof v);
    return bn_widen_ints(v ^ INT32_MIN) + 0x1p31;
}

/* 64-bit integers, less others, rounded once. Each half, made the last digits of a power of two, is a double. So is that of
   the other number, and the difference of both is exact. With the sign bit turned, signed numbers are unsigned ones. */
static inline bn_vec bn_less(bn_ulongs v, bn_vec high, bn_vec low) {
    bn_ulongs upper = v >> 32 | (uint64_t)0x4530000000000000;                   /* 2^84 + upper half * 2^32 */
    bn_ulongs lower = (v & (uint64_t)0xffffffff) | (uint64_t)0x4330000000000000;    /* 2^52 + lower half */
    bn_vec a, b;
    memcpy(&a, &upper, sizeof a);
    memcpy(&b, &lower, sizeof b);
    return (a - high) + (b - low);
}

static inline bn_vec bn_load_u64(const bn_u64 *p, bn_vec high, bn_vec low) {
    bn_ulongs v;
    memcpy(&v, p, sizeof v);
    return bn_less(v, high, low);
}

static inline bn_vec bn_load_i64(const bn_i64 *p, bn_vec high, bn_vec low) {
    bn_ulongs v;
    memcpy(&v, p, sizeof v);
    return bn_less(v ^ (uint64_t)1 << 63, high, low);
}

/* Half precision. A double is first rounded to odd in 24 bits: towards zero, with the last bit set if anything was lost. The
   second rounding then gives the same as one. */
#if BN_WIDTH >= 4
typedef BN_VECTOR(uint32_t) bn_uints;

static inline bn_vec bn_odd(bn_vec v) {
    const int64_t rest = 0x1fffffff;
    bn_longs bits = (bn_longs)v;
    return (bn_vec)((bits | ((bits & rest) + rest)) & ~rest);
}

static inline bn_vec bn_load_f16(const bn_f16 *p) {
    __m128i some = _mm_setzero_si128();
    memcpy(&some, p, BN_WIDTH * sizeof *p);
#if BN_WIDTH == 8
    return bn_widen((bn_floats)_mm256_cvtph_ps(some));
#else
    return bn_widen((bn_floats)_mm_cvtph_ps(some));
#endif
}

static inline bn_vec bn_load_bf16(const bn_bf16 *p) {
    __m128i some = _mm_setzero_si128();
    memcpy(&some, p, BN_WIDTH * sizeof *p);
    return bn_widen((bn_floats)((bn_uints)BN_EXTEND(u16)(some) << 16));
}

static inline void bn_store_f16(bn_f16 *p, bn_vec v) {
#if BN_WIDTH == 8
    __m128i some = _mm256_cvtps_ph((__m256)bn_narrow(bn_odd(v)), _MM_FROUND_TO_NEAREST_INT);
#else
    __m128i some = _mm_cvtps_ph((__m128)bn_narrow(bn_odd(v)), _MM_FROUND_TO_NEAREST_INT);
#endif
    memcpy(p, &some, BN_WIDTH * sizeof *p);
}

/* Adding 1.5 * 2^45 times the power of two in v rounds v to 8 bits, and below 2^-126 to multiples of bfloat16's smallest
   number. Numbers beyond 2^200 become inf later. The sign of 0 is put back. */
static inline void bn_store_bf16(bn_bf16 *p, bn_vec v) {
    bn_longs bits = (bn_longs)v;
    bn_vec power = (bn_vec)(bits & (int64_t)0x7ff0000000000000);
#if BN_WIDTH == 8
    power = (bn_vec)_mm512_max_pd(_mm512_min_pd((__m512d)power, _mm512_set1_pd(0x1p200)), _mm512_set1_pd(0x1p-126));
#else
    power = (bn_vec)_mm256_max_pd(_mm256_min_pd((__m256d)power, _mm256_set1_pd(0x1p200)), _mm256_set1_pd(0x1p-126));
#endif
    power *= 0x1.8p45;
    bits = (bn_longs)((v + power) - power) | (bits & INT64_MIN);
    bn_uints upper = (bn_uints)bn_narrow((bn_vec)bits) >> 16;
#if BN_WIDTH == 8
    __m128i some = _mm256_cvtepi32_epi16((__m256i)upper);
#else
    __m128i some = _mm_packus_epi32((__m128i)upper, (__m128i)upper);
#endif
    memcpy(p, &some, BN_WIDTH * sizeof *p);
}
#else
#define BN_HALVES(name, type, from, to)                                                                                   \
    static inline bn_vec bn_load_##name(const type *p) {                                                                  \
        double some[BN_WIDTH];                                                                                            \
        for (int i = 0; i < BN_WIDTH; i++) some[i] = from(p[i].bits);                                                     \
        return bn_get(some);                                                                                              \
    }                                                                                                                     \
    static inline void bn_store_##name(type *p, bn_vec v) {                                                               \
        double some[BN_WIDTH];                                                                                            \
        bn_put(some, v);                                                                                                  \
        for (int i = 0; i < BN_WIDTH; i++) p[i].bits = to(some[i]);                                                       \
    }
BN_HALVES(f16, bn_f16, bn_half, bn_to_half)
BN_HALVES(bf16, bn_bf16, bn_bfloat, bn_to_bfloat)
#endif

/* The first n < BN_WIDTH elements; a load makes the others 0. */
#define BN_LOAD_SOME(name, type)                                                                                          \
    static inline bn_vec bn_load_some_##name(const type *p, ptrdiff_t n) {                                                \
        type some[BN_WIDTH] = {0};                                                                                        \
        for (ptrdiff_t i = 0; i < n; i++) some[i] = p[i];                                                                 \
        return bn_load_##name(some);                                                                                      \
    }
#define BN_LOAD_SOME_LESS(name, type)                                                                                     \
    static inline bn_vec bn_load_some_##name(const type *p, ptrdiff_t n, bn_vec high, bn_vec low) {                       \
        type some[BN_WIDTH] = {0};                                                                                        \
        for (ptrdiff_t i = 0; i < n; i++) some[i] = p[i];                                                                 \
        return bn_load_##name(some, high, low);                                                                           \
    }
#define BN_STORE_SOME(name, type)                                                                                         \
    static inline void bn_store_some_##name(type *p, bn_vec v, ptrdiff_t n) {                                             \
        type some[BN_WIDTH];                                                                                              \
        bn_store_##name(some, v);                                                                                         \
        for (ptrdiff_t i = 0; i < n; i++) p[i] = some[i];                                                                 \
    }
BN_LOAD_SOME(i8, int8_t)
BN_LOAD_SOME(u8, uint8_t)
BN_LOAD_SOME(i16, bn_i16)
BN_LOAD_SOME(u16, bn_u16)
BN_LOAD_SOME(i32, bn_i32)
BN_LOAD_SOME(u32, bn_u32)
BN_LOAD_SOME(f16, bn_f16)
BN_LOAD_SOME(bf16, bn_bf16)
BN_LOAD_SOME_LESS(i64, bn_i64)
BN_LOAD_SOME_LESS(u64, bn_u64)
BN_STORE_SOME(f16, bn_f16)
BN_STORE_SOME(bf16, bn_bf16)
#if BN_WIDTH == 8
static inline bn_vec bn_load_some_f32(const bn_f32 *p, ptrdiff_t n) {
    return bn_widen((bn_floats)_mm256_maskz_loadu_ps(bn_first(n), (const float *)p));
}
static inline bn_vec bn_load_some_f64(const bn_f64 *p, ptrdiff_t n) {
    return (bn_vec)_mm512_maskz_loadu_pd(bn_first(n), (const double *)p);
}
static inline void bn_store_some_f32(bn_f32 *p, bn_vec v, ptrdiff_t n) {
    _mm256_mask_storeu_ps((float *)p, bn_first(n), (__m256)bn_narrow(v));
}
static inline void bn_store_some_f64(bn_f64 *p, bn_vec v, ptrdiff_t n) {
    _mm512_mask_storeu_pd((double *)p, bn_first(n), (__m512d)v);
}
#elif BN_WIDTH == 4
static inline bn_vec bn_load_some_f32(const bn_f32 *p, ptrdiff_t n) {
    static const int32_t lanes[] = {-1, -1, -1, -1, 0, 0, 0, 0};
    __m128i m = _mm_loadu_si128((const __m128i *)(lanes + 4 - n));
    return bn_widen((bn_floats)_mm_maskload_ps((const float *)p, m));
}
static inline bn_vec bn_load_some_f64(const bn_f64 *p, ptrdiff_t n) {
    return (bn_vec)_mm256_maskload_pd((const double *)p, (__m256i)bn_first(n));
}
BN_STORE_SOME(f32, bn_f32)
BN_STORE_SOME(f64, bn_f64)
#else
BN_LOAD_SOME(f32, bn_f32)
BN_LOAD_SOME(f64, bn_f64)
BN_STORE_SOME(f32, bn_f32)
BN_STORE_SOME(f64, bn_f64)
#endif

#endif
