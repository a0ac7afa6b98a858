"""What the kernels run on: the level of this CPU, OpenMP, and how many threads. Built at baseline."""

import math
import operator
import os
from pathlib import Path

cdef extern from "runtime.h" nogil:
    const int OPENMP "BN_OPENMP"
    const char *COMPILER "BN_COMPILER"
    bint supports_v3 "bn_supports_v3"()
    bint supports_v4 "bn_supports_v4"()

cdef enum:
    BYTES_PER_THREAD = 65536    # less is done sooner than a thread is woken
    MAX_THREADS = 65536

cdef int n_default = 1
# More threads than this for each CPU only cost, and where a limit forbids them the OpenMP library ends the process.
cdef int n_most = 4 * (os.cpu_count() or 1)
cdef bint forked = False

compiler = COMPILER.decode()
openmp = OPENMP                 # the standard's date, as 201511 for 4.5; 0 where built without


def cpu_levels():
    """The psABI levels of this CPU, highest first, always ending in "baseline"."""
    has = {"x86-64-v4": supports_v4(), "x86-64-v3": supports_v3(), "baseline": True}
    return [level for level, there in has.items() if there]


def cgroup_cpus(root="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """The CPUs that this process's cgroup (v2 or v1) and those above it may use, inf where none sets a limit."""
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
    """The limit that one cgroup sets, in CPUs."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            if int(quota) > 0 and int(period) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):       # no such file; "max"
            continue
    return math.inf


def default_threads():
    """OMP_NUM_THREADS, else the CPUs that affinity and cgroup leave to this process."""
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
    """Set how many threads a call may use where it is not given ``n_threads``.

    Parameters
    ----------
    n : int
        At least 1. ``None`` goes back to the default: ``OMP_NUM_THREADS``, else the CPUs that the affinity mask and
        the cgroup leave to this process.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1 or more than 65536.

    Notes
    -----
    It holds for the whole process. No result depends on it, not in one bit. Small input is done by one thread
    whatever is set, and so is all input in a forked child and in a build without OpenMP; there are never more than four
    for each CPU.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.set_num_threads(2)
    >>> bnstream.get_num_threads() <= 2         # 1 where built without OpenMP
    True
    >>> bnstream.set_num_threads(None)
    """
    global n_default
    n_default = default_threads() if n is None else positive(n)


def get_num_threads():
    """How many threads a call may use where it is not given ``n_threads``.

    Returns
    -------
    int
        1 in a build without OpenMP and in a forked child, else what `set_num_threads` set.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.get_num_threads() >= 1
    True
    """
    return n_default if OPENMP and not forked else 1


cdef int threads_for(Py_ssize_t n_bytes, object n_threads) except -1:
    """How many threads for a call on so many bytes: the only place that decides it."""
    cdef int n = n_default if n_threads is None else positive(n_threads)
    if not OPENMP or forked or n_bytes < 2 * BYTES_PER_THREAD:
        return 1
    return min(n, n_most, n_bytes // BYTES_PER_THREAD)


def _after_fork():
    """The pool of threads did not come along, and libgomp would wait for it for ever."""
    global forked
    forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
set_num_threads(None)
