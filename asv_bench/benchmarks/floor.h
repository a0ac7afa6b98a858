/* The floor that the kernels are measured against: reading n bytes, on so many threads, and nothing more. Vectors of 64
   bytes, two loads a step, at the level of the machine at hand. */
#include <stddef.h>
#include <stdint.h>

typedef int64_t line __attribute__((vector_size(64), aligned(16), may_alias));

#if defined(__x86_64__)
__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
static int64_t read_part(const char *p, size_t n) {
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

int64_t bn_read(const char *p, size_t n, int n_threads) {
    int64_t total = 0;
    size_t part = n / n_threads / 128 * 128;
#pragma omp parallel for num_threads(n_threads) reduction(+ : total) schedule(static)
    for (int i = 0; i < n_threads; i++) total += read_part(p + i * part, part);
    return total;
}
