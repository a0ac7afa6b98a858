/* The floors of memory: n_threads threads read n bytes, or copy them, and do nothing else. The file is compiled for the
   highest level of the CPU, and its vectors fill a register: wider ones are compiled to memory, and read a tenth as fast. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX2__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
#define LINE 64         /* bytes of a cache line */

typedef int64_t vector __attribute__((vector_size(WIDTH), aligned(1), may_alias));

/* Two loads per step. */
static int64_t read_part(const char *p, size_t n) {
    vector a = {0}, b = {0};
    int64_t total = 0;
    for (size_t i = 0; i + 2 * WIDTH <= n; i += 2 * WIDTH) {
        a += *(const vector *)(p + i);
        b += *(const vector *)(p + i + WIDTH);
    }
    a += b;
    for (int i = 0; i < WIDTH / 8; i++) total += a[i];
    return total;
}

static int64_t read_parallel(const char *p, size_t n, int n_threads) {
    int64_t total = 0;
    size_t part = n / n_threads / 128 * 128;
#pragma omp parallel for num_threads(n_threads) reduction(+ : total) schedule(static)
    for (int i = 0; i < n_threads; i++) total += read_part(p + i * part, part);
    return total;
}

/* The read is repeated here so that the cost of the call from Python is no part of the floor of a small array. One thread
   reads without OpenMP, which would cost 0.4 us. */
int64_t bn_read(const char *p, size_t n, int n_threads, int times) {
    int64_t total = 0;
    for (int k = 0; k < times; k++) {
        total += n_threads > 1 ? read_parallel(p, n, n_threads) : read_part(p, n);
        __asm__ volatile("" : : : "memory");    /* The compiler must not merge the reads. */
    }
    return total;
}

/* Which kind of copy is the fastest depends on the CPU and on the size. With 2 cores and 100 MB, one with AVX-512 was
   faster with source and target prefetched 16 KB ahead; a Zen 4 copies 12 GB/s so on one core, 14 plainly and 23 past
   the cache. In the cache, the plain copy wins. floor.py tries all of them. */
enum { PLAIN, PREFETCHED, PAST_THE_CACHE };

static void copy_plain(const char *p, char *q, size_t n) {
    for (size_t i = 0; i < n; i += WIDTH) *(vector *)(q + i) = *(const vector *)(p + i);
}

static void copy_prefetched(const char *p, char *q, size_t n) {
    for (size_t i = 0; i < n; i += LINE) {
        __builtin_prefetch(p + i + 16384);
        __builtin_prefetch(q + i + 16384, 1);
        for (int j = 0; j < LINE; j += WIDTH) *(vector *)(q + i + j) = *(const vector *)(p + i + j);
    }
}

static void copy_past_the_cache(const char *p, char *q, size_t n) {
#ifdef __SSE2__
    for (size_t i = 0; i < n; i += 16)
        _mm_stream_si128((__m128i *)(q + i), _mm_loadu_si128((const __m128i *)(p + i)));
    _mm_sfence();
#else
    copy_plain(p, q, n);
#endif
}

/* From the first cache line of the target that is whole. */
static void copy_part(const char *p, char *q, size_t n, int kind) {
    size_t head = -(uintptr_t)q % LINE, lines;
    if (head > n) head = n;
    memcpy(q, p, head);
    p += head;
    q += head;
    lines = (n - head) / LINE * LINE;
    if (kind == PLAIN) copy_plain(p, q, lines);
    if (kind == PREFETCHED) copy_prefetched(p, q, lines);
    if (kind == PAST_THE_CACHE) copy_past_the_cache(p, q, lines);
    memcpy(q + lines, p + lines, n - head - lines);
}

static void copy_parallel(const char *p, char *q, size_t n, int n_threads, int kind) {
    size_t part = n / n_threads / 4096 * 4096;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int i = 0; i < n_threads; i++)
        copy_part(p + i * part, q + i * part, i + 1 < n_threads ? part : n - i * part, kind);
}

void bn_copy(const char *p, char *q, size_t n, int n_threads, int kind) {
    if (n_threads > 1) copy_parallel(p, q, n, n_threads, kind);
    else copy_part(p, q, n, kind);
}
