/* Logs the calls that write files below a folder, and lets one of them fail, or kills the process at it.

   crashes.py preloads it. Nothing is logged before `watch_files`. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define N_FILES 4096
enum { FAIL, KILL_BEFORE, KILL_AFTER };

static char folder[PATH_MAX];
static size_t length;               /* of the folder; 0: nothing is watched */
static char names[N_FILES][256];    /* of open files below the folder, without it */
static int log_to = -1;
static long count, chosen;          /* calls so far, and the one at which something happens; 0: none */
static int action, number, rest;    /* what happens; the errno; whether later calls fail as well */

#define REAL(name) ((__typeof__(name) *) real(#name))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

/* The part of a path below the folder, or NULL. */
static const char *below(const char *path) {
    if (length == 0 || path == NULL || strncmp(path, folder, length) != 0)
        return NULL;
    return path[length] == '/' ? path + length + 1 : path[length] == 0 ? "." : NULL;
}

/* The name of an open file below the folder, or NULL. */
static const char *name_of(int file) {
    return length != 0 && file >= 0 && file < N_FILES && names[file][0] ? names[file] : NULL;
}

/* Log a call; return whether it is to fail. */
static int fails(const char *call, const char *name, const char *to) {
    char line[1024];
    long now = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    int n = snprintf(line, sizeof line, "%s\t%s\t%s\n", call, name, to);
    if (log_to >= 0 && n > 0 && n < (int) sizeof line)
        (void) !REAL(write)(log_to, line, n);
    if (now == chosen && action == KILL_BEFORE)
        kill(getpid(), SIGKILL);
    if (action != FAIL || chosen == 0 || now < chosen || (now > chosen && !rest))
        return 0;
    errno = number;
    return 1;
}

static void done(void) {
    if (action == KILL_AFTER && count == chosen)
        kill(getpid(), SIGKILL);
}

/* Watch a folder. The chosen call fails with this errno, or the process is killed before it or after it. */
void watch_files(const char *path, long which, int what, int error, int all_after, int log_file) {
    snprintf(folder, sizeof folder, "%s", path);
    length = strlen(folder);
    count = 0;
    chosen = which;
    action = what;
    number = error;
    rest = all_after;
    log_to = log_file;
}

long files_calls(void) {
    return count;
}

static int opened(int file, const char *name) {
    if (file >= 0 && file < N_FILES)
        snprintf(names[file], sizeof *names, "%s", name);
    done();
    return file;
}

#define OPEN(function)                                              \
    int function(const char *path, int flags, ...) {                \
        const char *name = below(path);                             \
        va_list arguments;                                          \
        va_start(arguments, flags);                                 \
        mode_t mode = va_arg(arguments, mode_t);                    \
        va_end(arguments);                                          \
        if (name == NULL)                                           \
            return REAL(function)(path, flags, mode);               \
        if (fails("open", name, ""))                                \
            return -1;                                              \
        return opened(REAL(function)(path, flags, mode), name);     \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    if (file >= 0 && file < N_FILES)
        names[file][0] = 0;
    return REAL(close)(file);
}

/* A full disk takes the first half of what is written, as disks do. */
#define WRITE(function, parameters, arguments, shorter)             \
    ssize_t function parameters {                                   \
        const char *name = name_of(file);                           \
        if (name == NULL)                                           \
            return REAL(function) arguments;                        \
        if (fails(#function, name, "")) {                           \
            if (errno != ENOSPC || n < 2 || count != chosen)        \
                return -1;                                          \
            return REAL(function) shorter;                          \
        }                                                           \
        ssize_t written = REAL(function) arguments;                 \
        done();                                                     \
        return written;                                             \
    }
WRITE(write, (int file, const void *bytes, size_t n), (file, bytes, n), (file, bytes, n / 2))
WRITE(pwrite, (int file, const void *bytes, size_t n, off_t at), (file, bytes, n, at), (file, bytes, n / 2, at))
WRITE(pwrite64, (int file, const void *bytes, size_t n, off64_t at), (file, bytes, n, at), (file, bytes, n / 2, at))

#define SYNC(function)                                              \
    int function(int file) {                                        \
        const char *name = name_of(file);                           \
        if (name != NULL && fails(#function, name, ""))             \
            return -1;                                              \
        int failed = REAL(function)(file);                          \
        if (name != NULL)                                           \
            done();                                                 \
        return failed;                                              \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    const char *name = below(to);
    if (name != NULL && fails("rename", below(from) ? below(from) : from, name))
        return -1;
    int failed = REAL(rename)(from, to);
    if (name != NULL)
        done();
    return failed;
}

/* Files can be removed from a full disk, and not from one that is read-only. */
int unlink(const char *path) {
    const char *name = below(path);
    if (name != NULL && fails("unlink", name, "") && number != ENOSPC)
        return -1;
    int failed = REAL(unlink)(path);
    if (name != NULL)
        done();
    return failed;
}
