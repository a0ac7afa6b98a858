# Locks in compiled code, between `acquired` and a `finally` with `release`. A with statement of Cython 3.3 that an exception
# leaves makes a traceback first; if there is no memory for it, the lock is never released, and the next call waits for ever.

cdef inline object acquired(object lock):
    """The lock, acquired, unless it is None."""
    if lock is not None:
        lock.acquire()
    return lock


cdef inline int release(object lock) except -1:
    if lock is not None:
        lock.release()
    return 0
