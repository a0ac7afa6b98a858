# Locks in compiled code. Cython 3.3 makes a traceback before it leaves a `with` by an exception. If there is no memory
# for it, the lock is never released, and the next call waits for ever. Hence `acquire`, `try`, `finally`, `release`.

cdef inline object acquire(object lock):
    """The lock, acquired, unless it is None."""
    if lock is not None:
        lock.acquire()
    return lock


cdef inline int release(object lock) except -1:
    if lock is not None:
        lock.release()
    return 0
