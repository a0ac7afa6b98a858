/* What the process runs on: the level of the CPU, and whether there is OpenMP. Only _runtime includes this file. */
#ifndef BNSTREAM_RUNTIME_H
#define BNSTREAM_RUNTIME_H

#ifdef _OPENMP
#include <omp.h>
#define BN_OPENMP _OPENMP
#else
#define BN_OPENMP 0
#endif

/* Each predicate names the -march flag of its variant. The build defines BN_LEVELS if it includes these variants. */
#ifdef BN_LEVELS
#define bn_supports_v3() __builtin_cpu_supports("x86-64-v3")
#define bn_supports_v4() __builtin_cpu_supports("x86-64-v4")
#else
#define bn_supports_v3() 0
#define bn_supports_v4() 0
#endif

#ifndef BN_WITHOUT_OPENMP
#define BN_WITHOUT_OPENMP ""
#endif

/* How many of n threads can be made beside those that there are. Libraries of OpenMP end the process where a limit of
 * memory or of processes forbids one. */
#ifdef _WIN32
static int bn_possible_threads(int n) { return n; }
#else
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static void *bn_wait(void *gate) {
    pthread_mutex_lock((pthread_mutex_t *)gate);
    pthread_mutex_unlock((pthread_mutex_t *)gate);
    return NULL;
}

static int bn_possible_threads(int n) {
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t *made = (pthread_t *)malloc(n * sizeof(pthread_t));
    struct timespec moment = {0, 10000000};
    int i, there = 0;
    if (made == NULL) return 0;
    pthread_mutex_lock(&gate);
    while (there < n && pthread_create(&made[there], NULL, bn_wait, &gate) == 0) there++;
    pthread_mutex_unlock(&gate);
    for (i = 0; i < there; i++) pthread_join(made[i], NULL);
    free(made);
    /* Threads that have ended count against a limit until the kernel has cleared up after them. */
    if (0 < there && there < n) nanosleep(&moment, NULL);
    return there;
}
#endif

/* How many threads of OpenMP a call of this thread can have, n at most. A team keeps its threads for the next call, and
 * these are not tried again. libgomp ends those that a smaller team does not need. */
#ifdef _MSC_VER
static __declspec(thread) int bn_team = 1;
#else
static _Thread_local int bn_team = 1;
#endif

static int bn_team_of(int n) {
    if (n > bn_team) n = bn_team + bn_possible_threads(n - bn_team);
    if (n > 1) bn_team = n;
    return n;
}

#if defined(__clang__)
#define BN_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define BN_COMPILER "gcc " __VERSION__
#elif defined(_MSC_VER)
#define BN_TEXT_(x) #x
#define BN_TEXT(x) BN_TEXT_(x)
#define BN_COMPILER "msvc " BN_TEXT(_MSC_VER)
#else
#define BN_COMPILER "unknown"
#endif

#endif
