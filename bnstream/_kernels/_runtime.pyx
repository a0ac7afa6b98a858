"""What the kernels run on: the level of this CPU, OpenMP, and the number of threads. Built at baseline."""

import math
import operator
import os
from pathlib import Path

cdef extern from "runtime.h" nogil:
    const int OPENMP "BN_OPENMP"
    const char *COMPILER "BN_COMPILER"
    const char *WITHOUT_OPENMP "BN_WITHOUT_OPENMP"
    int possible "bn_possible_threads"(int n)
    int team_of "bn_team_of"(int n)
    bint supports_v3 "bn_supports_v3"()
    bint supports_v4 "bn_supports_v4"()

cdef enum:
    BYTES_PER_THREAD = 65536    # One thread finishes less than this before another wakes up.
    MAX_THREADS = 65536         # largest number that a caller or OMP_NUM_THREADS can set

cdef int n_default = 1          # threads of a call without n_threads
# More than four threads per CPU only cost time, and the OpenMP library ends the process if a limit forbids them.
cdef int n_most = 4 * (os.cpu_count() or 1)
cdef bint forked = False

compiler = COMPILER.decode()
without_openmp = WITHOUT_OPENMP.decode()        # why a build has none
openmp = OPENMP                 # date of the OpenMP standard, such as 201511 for 4.5; 0 in a build without OpenMP


def cpu_levels():
    """Return the psABI levels that this CPU supports, highest first. The last one is always "baseline"."""
    supported = {"x86-64-v4": supports_v4(), "x86-64-v3": supports_v3(), "baseline": True}
    return [level for level, there in supported.items() if there]


def cgroup_cpus(root="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """Return the CPU limit of this process's cgroup (v2 or v1) and of the cgroups above it, or inf if none sets one."""
    limit = math.inf
    try:
        lines = Path(membership).read_text().splitlines()
    except OSError:
        return limit
    for line in lines:
        _, controllers, path = (line + "::").split(":", 2)
        path = path.removesuffix("::")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = Path(root, controllers) if controllers else Path(root)
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            if place == base.parent:
                break
            limit = min(limit, _quota(place))
    return limit


def _quota(folder):
    """Return the limit that one cgroup sets, in CPUs, or inf."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            if int(quota) > 0 and int(period) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):       # There is no such file, or it says "max".
            continue
    return math.inf


def default_threads():
    """Return OMP_NUM_THREADS if it is a positive integer, else the CPUs that affinity mask and cgroup allow."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return min(int(first), MAX_THREADS)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, math.ceil(min(cgroup_cpus(), cpus))))


cdef int positive(object n) except -1:
    try:
        value = operator.index(n)
    except TypeError:
        raise TypeError(f"the number of threads must be an integer, got {type(n).__name__}") from None
    if not 1 <= value <= MAX_THREADS:
        raise ValueError(f"the number of threads must be from 1 to {MAX_THREADS}, got {value}")
    return value


def set_num_threads(n):
    """Set the number of threads for calls without ``n_threads``.

    Parameters
    ----------
    n : int or None
        From 1 to 65536. ``None`` restores the default: ``OMP_NUM_THREADS`` if it is set, else the number of CPUs that
        the affinity mask and the cgroup allow.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1 or more than 65536.

    Notes
    -----
    The setting applies to the whole process. It changes no bit of any result. Whatever the setting, a call uses one
    thread for small input, in a forked child, and in a build without OpenMP, and never more than four threads per CPU.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.set_num_threads(2)
    >>> bnstream.get_num_threads() <= 2         # 1 in a build without OpenMP
    True
    >>> bnstream.set_num_threads(None)
    """
    global n_default
    n_default = default_threads() if n is None else positive(n)


def get_num_threads():
    """Return the number of threads for calls without ``n_threads``.

    Returns
    -------
    int
        1 in a build without OpenMP and in a forked child, else the number set by `set_num_threads` or the default.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.get_num_threads() >= 1
    True
    """
    return n_default if OPENMP and not forked else 1


cdef int threads_for(Py_ssize_t n_bytes, object n_threads) except -1:
    """The number of threads for a call that reads n_bytes. Nothing else decides it."""
    cdef int n = n_default if n_threads is None else positive(n_threads)
    if not OPENMP or forked or n_bytes < 2 * BYTES_PER_THREAD:
        return 1
    return team_of(min(n, n_most, n_bytes // BYTES_PER_THREAD))


def possible_threads(int n):
    """Return how many threads can be made now, at most n, beside those that there are."""
    return possible(n)


def _after_fork():
    """Make the child use one thread: fork does not copy the thread pool, and libgomp would wait for it forever."""
    global forked
    forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
set_num_threads(None)
