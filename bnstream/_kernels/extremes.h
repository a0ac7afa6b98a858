/* The least and the greatest elements of columns and of runs, in the type of the elements: sixteen float32 share an AVX-512
   register, where doubles would need two and a conversion.

   A comparison with NaN is false, so that NaN changes nothing. Half-precision numbers are compared as integers of the same
   order: all bits but the sign of a negative number are turned. NaN is then beyond inf. The order of -0 and 0 is left open
   here; see `decoded`. */
#ifndef BNSTREAM_EXTREMES_H
#define BNSTREAM_EXTREMES_H
#include "vectors.h"

/* Compiled by itself: where it is inlined, GCC 12 makes no vectors of the loops. */
#if defined(__GNUC__)
#define BN_APART static __attribute__((noinline))
#else
#define BN_APART static
#endif
/* No row lies in another. GCC 12 does not believe it of the rows of a parameter. */
#if defined(__GNUC__) && !defined(__clang__)
#define BN_VECTORS _Pragma("GCC ivdep")
#else
#define BN_VECTORS
#endif

static inline int16_t bn_key(bn_u16 bits) {
    int16_t v = (int16_t)bits;
    return (int16_t)(v ^ (v >> 15 & 0x7fff));
}

/* Add n_rows rows, `pitch` elements apart, to the extremes of `width` columns. */
#define BN_SAME(v) (v)
#define BN_OF_BITS(v) bn_key((v).bits)
#define BN_TAKE(k, value)                                                                                                 \
    v = value(x[j + (k) * pitch]);                                                                                        \
    a = v < a ? v : a;                                                                                                    \
    b = v > b ? v : b;
#define BN_EIGHT_ROWS(take, value)                                                                                        \
    take(0, value) take(1, value) take(2, value) take(3, value) take(4, value) take(5, value) take(6, value) take(7, value)
#define BN_EXTREMES(name, type, own, value)                                                                               \
    BN_APART void bn_extremes_##name(const type *x, ptrdiff_t pitch, ptrdiff_t n_rows, ptrdiff_t width, void *least,        \
                                   void *greatest) {                                                                      \
        own *BN_RESTRICT low = (own *)least;                                                                              \
        own *BN_RESTRICT high = (own *)greatest;                                                                          \
        ptrdiff_t r = 0;                                                                                                  \
        for (; r + 8 <= n_rows; r += 8, x += 8 * pitch)                                                                   \
            BN_VECTORS for (ptrdiff_t j = 0; j < width; j++) {                                                                       \
                own a = low[j], b = high[j], v;                                                                           \
                BN_EIGHT_ROWS(BN_TAKE, value)                                                                             \
                low[j] = a;                                                                                               \
                high[j] = b;                                                                                              \
            }                                                                                                             \
        for (; r < n_rows; r++, x += pitch)                                                                               \
            BN_VECTORS for (ptrdiff_t j = 0; j < width; j++) {                                                                       \
                own v = value(x[j]);                                                                                      \
                low[j] = v < low[j] ? v : low[j];                                                                         \
                high[j] = v > high[j] ? v : high[j];                                                                      \
            }                                                                                                             \
    }                                                                                                                     \
    BN_APART void bn_extremes_of_run_##name(const type *x, ptrdiff_t n, void *least, void *greatest) {                      \
        own a = *(own *)least, b = *(own *)greatest;                                                                      \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                               \
            own v = value(x[i]);                                                                                          \
            a = v < a ? v : a;                                                                                            \
            b = v > b ? v : b;                                                                                            \
        }                                                                                                                 \
        *(own *)least = a;                                                                                                \
        *(own *)greatest = b;                                                                                             \
    }

/* The same with vectors: GCC 12 makes a comparison and a blend of what min and max do in one instruction. */
#define BN_FLOAT_EXTREMES(name, type, own, lanes, vector, load, store, smaller, larger)                                   \
    BN_APART void bn_extremes_##name(const type *x, ptrdiff_t pitch, ptrdiff_t n_rows, ptrdiff_t width, void *least,        \
                                   void *greatest) {                                                                      \
        own *BN_RESTRICT low = (own *)least;                                                                              \
        own *BN_RESTRICT high = (own *)greatest;                                                                          \
        ptrdiff_t r = 0;                                                                                                  \
        while (r < n_rows) {                                                                                              \
            ptrdiff_t j = 0, some = n_rows - r < 8 ? 1 : 8;                                                               \
            if (some == 8)                                                                                                \
                for (; j + lanes <= width; j += lanes) {                                                                  \
                    vector a = load(low + j), b = load(high + j);                                                         \
                    for (int k = 0; k < 8; k++) {                                                                         \
                        vector v = load((const own *)(x + j + k * pitch));                                                \
                        a = smaller(v, a);                                                                                \
                        b = larger(v, b);                                                                                 \
                    }                                                                                                     \
                    store(low + j, a);                                                                                    \
                    store(high + j, b);                                                                                   \
                }                                                                                                         \
            for (ptrdiff_t k = 0; k < some; k++)                                                                          \
                for (ptrdiff_t i = j; i < width; i++) {                                                                   \
                    own v = x[i + k * pitch];                                                                             \
                    low[i] = v < low[i] ? v : low[i];                                                                     \
                    high[i] = v > high[i] ? v : high[i];                                                                  \
                }                                                                                                         \
            r += some;                                                                                                    \
            x += some * pitch;                                                                                            \
        }                                                                                                                 \
    }                                                                                                                     \
    BN_APART void bn_extremes_of_run_##name(const type *x, ptrdiff_t n, void *least, void *greatest) {                      \
        own low[4 * lanes], high[4 * lanes];                                                                              \
        ptrdiff_t i = 0, lane;                                                                                            \
        if (n >= 4 * lanes) {                                                                                             \
            vector a[4], b[4];                                                                                            \
            for (int k = 0; k < 4; k++) {                                                                                 \
                for (lane = 0; lane < lanes; lane++) {                                                                    \
                    low[lane] = *(own *)least;                                                                            \
                    high[lane] = *(own *)greatest;                                                                        \
                }                                                                                                         \
                a[k] = load(low);                                                                                         \
                b[k] = load(high);                                                                                        \
            }                                                                                                             \
            for (; i + 4 * lanes <= n; i += 4 * lanes)                                                                    \
                for (int k = 0; k < 4; k++) {                                                                             \
                    vector v = load((const own *)(x + i + k * lanes));                                                    \
                    a[k] = smaller(v, a[k]);                                                                              \
                    b[k] = larger(v, b[k]);                                                                               \
                }                                                                                                         \
            store(low, smaller(smaller(a[0], a[1]), smaller(a[2], a[3])));                                                \
            store(high, larger(larger(b[0], b[1]), larger(b[2], b[3])));                                                  \
            for (lane = 0; lane < lanes; lane++) {                                                                        \
                *(own *)least = low[lane] < *(own *)least ? low[lane] : *(own *)least;                                    \
                *(own *)greatest = high[lane] > *(own *)greatest ? high[lane] : *(own *)greatest;                         \
            }                                                                                                             \
        }                                                                                                                 \
        for (; i < n; i++) {                                                                                              \
            own v = x[i];                                                                                                 \
            *(own *)least = v < *(own *)least ? v : *(own *)least;                                                        \
            *(own *)greatest = v > *(own *)greatest ? v : *(own *)greatest;                                               \
        }                                                                                                                 \
    }

BN_EXTREMES(i8, int8_t, int8_t, BN_SAME)
BN_EXTREMES(u8, uint8_t, uint8_t, BN_SAME)
BN_EXTREMES(i16, bn_i16, int16_t, BN_SAME)
BN_EXTREMES(u16, bn_u16, uint16_t, BN_SAME)
BN_EXTREMES(i32, bn_i32, int32_t, BN_SAME)
BN_EXTREMES(u32, bn_u32, uint32_t, BN_SAME)
BN_EXTREMES(i64, bn_i64, int64_t, BN_SAME)
BN_EXTREMES(u64, bn_u64, uint64_t, BN_SAME)
BN_EXTREMES(f16, bn_f16, int16_t, BN_OF_BITS)
BN_EXTREMES(bf16, bn_bf16, int16_t, BN_OF_BITS)
#if BN_WIDTH == 8
BN_FLOAT_EXTREMES(f32, bn_f32, float, 16, __m512, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_min_ps, _mm512_max_ps)
BN_FLOAT_EXTREMES(f64, bn_f64, double, 8, __m512d, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_min_pd, _mm512_max_pd)
#elif BN_WIDTH == 4
BN_FLOAT_EXTREMES(f32, bn_f32, float, 8, __m256, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_min_ps, _mm256_max_ps)
BN_FLOAT_EXTREMES(f64, bn_f64, double, 4, __m256d, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_min_pd, _mm256_max_pd)
#else
BN_EXTREMES(f32, bn_f32, float, BN_SAME)
BN_EXTREMES(f64, bn_f64, double, BN_SAME)
#endif

/* Doubles, some of which count: v where m is set and v is less, or greater; a NaN that counts stays. */
static inline bn_vec bn_pick(bn_mask m, bn_vec a, bn_vec b) {
#if BN_WIDTH == 8
    return (bn_vec)_mm512_mask_blend_pd(m, (__m512d)b, (__m512d)a);
#elif BN_WIDTH > 1
    return (bn_vec)(((bn_longs)a & m) | ((bn_longs)b & ~m));
#else
    return m ? a : b;
#endif
}

static inline bn_mask bn_below(bn_vec a, bn_vec b) {
#if BN_WIDTH == 8
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
#elif BN_WIDTH > 1
    return a < b;
#else
    return -(bn_mask)(a < b);
#endif
}

static inline bn_mask bn_nan(bn_vec v) { return (bn_mask)~bn_number(v); }

/* The halves decoded: a key is its own bits again. */
static inline void bn_decode_keys(uint16_t *keys, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) keys[i] = (uint16_t)bn_key(keys[i]);
}

/* n elements of 1, 2, 4 or 8 bytes, all with the same bits. */
static inline void bn_fill(void *p, ptrdiff_t n, ptrdiff_t size, uint64_t bits) {
    for (ptrdiff_t i = 0; i < n; i++) {
        if (size == 1) ((uint8_t *)p)[i] = (uint8_t)bits;
        else if (size == 2) ((uint16_t *)p)[i] = (uint16_t)bits;
        else if (size == 4) ((uint32_t *)p)[i] = (uint32_t)bits;
        else ((uint64_t *)p)[i] = bits;
    }
}
#endif
