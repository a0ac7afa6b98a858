"""The values that an Arrow validity bitmap marks as present."""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cnp.import_array()

ctypedef fused element:
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef Py_ssize_t gather(const element *x, const uint8_t *bits, Py_ssize_t first, Py_ssize_t n, element *out) noexcept nogil:
    """Write each value to the next free position, which advances if the bit is set: no branch to predict."""
    cdef Py_ssize_t i, kept = 0
    for i in range(first, first + n):
        out[kept] = x[i]
        kept += bits[i >> 3] >> (i & 7) & 1
    return kept


def valid(const element[::1] x not None, const uint8_t[::1] bits not None, Py_ssize_t first, Py_ssize_t n):
    """The values of x[first:first + n] whose bit is set, in a new array. Bits count from the least significant of a byte."""
    if first < 0 or n < 0 or first + n > x.shape[0] or first + n > 8 * bits.shape[0]:
        raise ValueError(f"{n} values from {first} on exceed the {x.shape[0]} values and {8 * bits.shape[0]} bits given")
    cdef element[::1] out = np.empty(n + 1, np.asarray(x).dtype)      # one more, as every value is written
    cdef Py_ssize_t kept = 0
    if n:
        with nogil:
            kept = gather(&x[0], &bits[0], first, n, &out[0])
    return np.asarray(out)[:kept]
