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
