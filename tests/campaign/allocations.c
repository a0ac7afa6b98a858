/* Fails the k-th allocation of a call, and counts the blocks in use. allocations.py preloads it.

   Only the thread that makes the call, and only during the call, meets the failure. A crash prints the stack of the
   allocation that failed, and its own. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define LOCAL static __thread __attribute__((tls_model("initial-exec")))
#define DEPTH 40

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
extern void *PyObject_CallNoArgs(void *) __attribute__((weak));

LOCAL int armed;
LOCAL long seen;            /* allocations since the call began */
static long first;          /* the one that fails; 0: none does */
static int more;            /* how many after it fail as well */
static long n_blocks;       /* in use, of all threads */
static void *failed_at[DEPTH];
static int failed_depth;

static int fails(void) {
    if (!armed)
        return 0;
    seen++;
    if (first == 0 || seen < first || seen > first + more)
        return 0;
    if (seen == first) {
        armed = 0;
        failed_depth = backtrace(failed_at, DEPTH);
        armed = 1;
    }
    errno = ENOMEM;
    return 1;
}

static void *counted(void *block) {
    if (block != NULL)
        __atomic_add_fetch(&n_blocks, 1, __ATOMIC_RELAXED);
    return block;
}

void *malloc(size_t size) {
    return fails() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size) {
    return fails() ? NULL : counted(__libc_calloc(n, size));
}

void *realloc(void *block, size_t size) {
    if (fails())
        return NULL;
    void *moved = __libc_realloc(block, size);
    return block == NULL ? counted(moved) : moved;
}

void *memalign(size_t alignment, size_t size) {
    return fails() ? NULL : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    void *found = memalign(alignment, size);
    if (found == NULL)
        return ENOMEM;
    *block = found;
    return 0;
}

void free(void *block) {
    if (block != NULL)
        __atomic_sub_fetch(&n_blocks, 1, __ATOMIC_RELAXED);
    __libc_free(block);
}

/* Call a Python function without arguments, with the k-th allocation of the call failing, and some after it. */
void *call_failing(void *function, long k, int n_more) {
    first = k;
    more = n_more;
    seen = 0;
    failed_depth = 0;
    armed = 1;
    void *result = PyObject_CallNoArgs(function);
    armed = 0;
    return result;
}

long allocations_seen(void) {
    return seen;
}

long blocks_in_use(void) {
    return n_blocks;
}

/* Print where the last failure was. */
void print_failure(void) {
    backtrace_symbols_fd(failed_at, failed_depth, 2);
}

static void crash(int number) {
    void *here[DEPTH];
    armed = 0;
    int depth = backtrace(here, DEPTH);
    static const char failed[] = "the allocation that failed:\n", crashed[] = "the crash:\n";
    (void) !write(2, failed, sizeof failed - 1);
    backtrace_symbols_fd(failed_at, failed_depth, 2);
    (void) !write(2, crashed, sizeof crashed - 1);
    backtrace_symbols_fd(here, depth, 2);
    signal(number, SIG_DFL);
    raise(number);
}

/* Handle crashes, on a stack of its own, as that of the thread may be used up. */
void watch_crashes(void) {
    static char stack[1 << 17];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = crash, .sa_flags = SA_ONSTACK | SA_NODEFER};
    int numbers[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    void *once[1];
    backtrace(once, 1);         /* loads what it needs */
    sigaltstack(&other, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

/* An allocator of NumPy's data without NumPy's cache of small blocks. See PyDataMem_SetHandler. */
static void *data_malloc(void *context, size_t size) { (void) context; return malloc(size ? size : 1); }
static void *data_calloc(void *context, size_t n, size_t size) { (void) context; return calloc(n, size); }
static void *data_realloc(void *context, void *block, size_t size) { (void) context; return realloc(block, size); }
static void data_free(void *context, void *block, size_t size) { (void) context; (void) size; free(block); }

struct {
    char name[127];
    uint8_t version;
    struct {
        void *context, *(*malloc)(void *, size_t), *(*calloc)(void *, size_t, size_t);
        void *(*realloc)(void *, void *, size_t);
        void (*free)(void *, void *, size_t);
    } allocator;
} data_handler = {"campaign", 1, {NULL, data_malloc, data_calloc, data_realloc, data_free}};
