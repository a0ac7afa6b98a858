/* The floors that the kernels are measured against: n_threads threads read n bytes, or copy them, and do nothing else.
   Vectors have 64 bytes; the functions are compiled for the CPU level of the machine. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef int64_t line __attribute__((vector_size(64), aligned(16), may_alias));

#if defined(__x86_64__)
#define EVERY_LEVEL __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define EVERY_LEVEL
#endif

/* Two loads per step. */
EVERY_LEVEL static int64_t read_part(const char *p, size_t n) {
    line a = {0}, b = {0};
    int64_t total = 0;
    for (size_t i = 0; i + 128 <= n; i += 128) {
        a += *(const line *)(p + i);
        b += *(const line *)(p + i + 64);
    }
    a += b;
    for (int i = 0; i < 8; i++) total += a[i];
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

/* Each store fills one cache line. With source and target prefetched 16 KB ahead, plain stores were faster than
   non-temporal ones on 2 cores with AVX-512. */
EVERY_LEVEL static void copy_part(const char *p, char *q, size_t n) {
    size_t i = -(uintptr_t)q % 64;
    if (i > n) i = n;
    memcpy(q, p, i);
    for (; i + 64 <= n; i += 64) {
        __builtin_prefetch(p + i + 16384);
        __builtin_prefetch(q + i + 16384, 1);
        *(line *)(q + i) = *(const line *)(p + i);
    }
    memcpy(q + i, p + i, n - i);
}

void bn_copy(const char *p, char *q, size_t n, int n_threads) {
    size_t part = n / n_threads / 4096 * 4096;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int i = 0; i < n_threads; i++) copy_part(p + i * part, q + i * part, i + 1 < n_threads ? part : n - i * part);
}
