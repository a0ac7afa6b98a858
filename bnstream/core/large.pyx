"""Data whose squares exceed float64: its states are those of x * 2**-POWER.

A channel has an exponent e of 0 or POWER, in the row EXPONENT of its state:

    mean, mean_lo       times 2**e      are those of x
    m2, m2_lo           times 4**e      are those of x

e is POWER only where the m2 of x would exceed the largest float. m2 never falls in a merge, so that a state does not depend
on how it came to its exponent. x * 2**-POWER is exact but for what is negligible beside such an m2. The power leaves room on
both sides: squares are below 2**648, which weights of 1e100 bring to 2**980.

    part -> moderate? -yes-> merge
                      -no--> `look_again`, if it is not finite -> `merge_large`
"""

import numpy as np

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport frexp, isfinite, ldexp, sqrt
from libc.string cimport memcpy
from numpy cimport ndarray

from bnstream._kernels._table cimport (
    EXPONENT, FLOAT64, M2, M2_LO, MEAN, MEAN_LO, N, N_LO, STATE_ROWS, WEIGHTED_ROWS, Kernels, Sink,
    View,
)
from bnstream.core.view cimport axes_named, kept_shape

from bnstream._kernels import capsule

cnp.import_array()

cdef const Kernels *kernels = <const Kernels *> PyCapsule_GetPointer(capsule, "bnstream.kernels")

cdef double SAFE = 1e290            # bound of a sum of squares; 1e16 of them do not overflow
cdef Py_ssize_t TILE = 1 << 16      # elements that are searched for NaN and inf at a time


cdef bint moderate(const double *state, Py_ssize_t pitch, Py_ssize_t n) noexcept nogil:
    """Whether the sum of the squares of x, n * mean * mean + m2, is below SAFE in each of n channels. NaN is not."""
    cdef Py_ssize_t c, n_large = 0
    cdef double mean
    for c in range(n):
        mean = state[MEAN * pitch + c]
        n_large += not state[N * pitch + c] * mean * mean + state[M2 * pitch + c] < SAFE
    return n_large == 0


cdef inline bint finite(const double *state, Py_ssize_t pitch, Py_ssize_t c) noexcept nogil:
    return isfinite(state[MEAN * pitch + c]) and isfinite(state[M2 * pitch + c])


cdef inline void multiply(double *state, Py_ssize_t pitch, Py_ssize_t c, double by) noexcept nogil:
    """Make a channel's state that of x * by. by * by may overflow, so m2 is multiplied twice."""
    state[MEAN * pitch + c] *= by
    state[MEAN_LO * pitch + c] *= by
    state[M2 * pitch + c] *= by
    state[M2 * pitch + c] *= by
    state[M2_LO * pitch + c] *= by
    state[M2_LO * pitch + c] *= by


cdef inline double least_exponent(double *state, Py_ssize_t pitch, Py_ssize_t c) noexcept nogil:
    """The exponent of a state of x * 2**-POWER. If that is 0, the state is made that of x."""
    if finite(state, pitch, c) and not isfinite(ldexp(state[M2 * pitch + c], 2 * POWER)):
        return POWER
    multiply(state, pitch, c, ldexp(1, POWER))
    return 0


cdef bint look_again(View *view, const Sink *sink, ndarray x, unsigned long long axes, ndarray weights, ndarray mask,
                     bint omit, int threads, double *exponent) except -1:
    """Replace the states that are not finite, though the data is, by those of a scaled look at x.

    `view` is that of x with its weights and its mask. `exponent` takes a number for each channel. Return whether any state
    was replaced.
    """
    cdef Py_ssize_t c, n = view.n_channels
    cdef ndarray lost = np.zeros(n, np.bool_), rows
    cdef cnp.npy_bool *is_lost = <cnp.npy_bool *> cnp.PyArray_DATA(lost)
    cdef Sink second = sink[0]
    cdef int failed, i
    for c in range(n):
        exponent[c] = 0
    if view.operand[0].element != FLOAT64:
        return False
    for c in range(n):
        is_lost[c] = not finite(sink.state, sink.pitch, c)
    if not omit:
        narrow(lost, x, axes, weights, mask, True)
    if not lost.any():
        return False
    rows = np.empty((WEIGHTED_ROWS, sink.pitch))
    second.state = <double *> cnp.PyArray_DATA(rows)
    view.in_place = False
    view.scale = ldexp(1, -POWER)
    with nogil:
        failed = kernels.accumulate(view, &second, omit, threads)
    if failed:
        raise MemoryError("no memory for the scratch of an update")
    for c in range(n):
        if is_lost[c]:
            exponent[c] = least_exponent(second.state, sink.pitch, c)
            for i in range(STATE_ROWS if weights is None else WEIGHTED_ROWS):
                sink.state[i * sink.pitch + c] = second.state[i * sink.pitch + c]
    return True


cdef int narrow(ndarray channels, ndarray x, unsigned long long axes, ndarray weights, ndarray mask,
                bint to_finite) except -1:
    """Keep in `channels`, a mask, those whose selected elements are all finite, or all NaN or inf.

    Weights and the mask have the axes of x; an element is selected where neither is 0. Only these channels are read, if they
    are of one axis, and no more of x than it takes until none is left.
    """
    cdef tuple batch = axes_named(axes, x.ndim), kept = axes_named(~axes, x.ndim)
    cdef list index = [slice(None)] * x.ndim, own
    cdef object a = x, left = channels.copy().reshape(kept_shape(x, axes, True))
    cdef int i
    if len(kept) == 1:
        index[kept[0]] = np.flatnonzero(channels)
        left = left[tuple(index)]
    longest = max(batch, key=a.shape.__getitem__, default=0)
    step = max(1, TILE * a.shape[longest] // a.size) if batch else a.shape[0]
    for start in range(0, a.shape[longest], step):
        if not left.any():
            break
        if batch:
            index[longest] = slice(start, start + step)
        good = np.isfinite(a[tuple(index)])
        if not to_finite:
            good = ~good
        for w in (weights, mask):
            if w is None:
                continue
            own = index.copy()
            for i in range(x.ndim):
                if w.shape[i] == 1:
                    own[i] = slice(None)
            good |= w[tuple(own)] == 0
        left &= good.all(batch, keepdims=True)
    channels[channels] = left.ravel() if len(kept) == 1 else left.ravel()[channels]
    return 0


cdef bint merge_large(double *state, Py_ssize_t pitch, bint weighted, const double *part, const double *exponent,
                      double *room) noexcept nogil:
    """Merge a part into a state with all its rows. An exponent rises where m2 would overflow. Return whether any is not 0.

    `exponent` is that of the part; NULL means 0. With `weighted`, n is a sum of weights. There are `pitch` channels. `room`
    holds ROOM_ROWS rows of them.
    """
    cdef Py_ssize_t c, n_over = 1
    cdef size_t row = pitch * sizeof(double)
    cdef double *before = room
    cdef double *theirs = before + STATE_ROWS * pitch
    cdef double *n_lo = theirs + STATE_ROWS * pitch
    cdef double *common = n_lo + pitch
    cdef double *own = state + EXPONENT * pitch
    cdef bint scaled = False
    memcpy(before, state, STATE_ROWS * row)
    memcpy(n_lo, state + N_LO * pitch, row)
    for c in range(pitch):
        common[c] = POWER if own[c] != 0 or exponent != NULL and exponent[c] != 0 else 0
    while n_over > 0:           # at most twice: what overflows without an exponent is merged again with it
        memcpy(state, before, STATE_ROWS * row)
        memcpy(state + N_LO * pitch, n_lo, row)
        memcpy(theirs, part, STATE_ROWS * row)
        for c in range(pitch):
            if common[c] != own[c]:
                multiply(state, pitch, c, ldexp(1, -POWER))
            if common[c] != (0 if exponent == NULL else exponent[c]):
                multiply(theirs, pitch, c, ldexp(1, -POWER))
        kernels.merge(state, pitch, state + N_LO * pitch if weighted else NULL, theirs, pitch, pitch)
        n_over = 0
        for c in range(pitch):
            if common[c] == 0 and not finite(state, pitch, c) and finite(before, pitch, c) and finite(part, pitch, c):
                common[c] = POWER
                n_over += 1
    for c in range(pitch):
        own[c] = least_exponent(state, pitch, c) if common[c] != 0 else 0
        scaled = scaled or own[c] != 0
    return scaled


cdef double variance_of(double m2, double n, double exponent) noexcept nogil:
    """m2 / n of x. It is inf only where it is beyond the largest float."""
    cdef int power = 0
    cdef double fraction
    if exponent == 0:
        return m2 / n
    fraction = frexp(m2, &power)
    return ldexp(fraction / n, power + 2 * POWER)


cdef double deviation_of(double m2, double n, double exponent) noexcept nogil:
    """The square root of m2 / n of x."""
    cdef int power = 0
    cdef double fraction
    if exponent == 0:
        return sqrt(m2 / n)
    fraction = frexp(m2, &power)
    if power & 1:
        fraction *= 2
        power -= 1
    return ldexp(sqrt(fraction / n), power // 2 + POWER)


cdef double restored(double mean, double exponent) noexcept nogil:
    """The mean of x."""
    return ldexp(mean, <int> exponent)
