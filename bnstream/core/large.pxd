from numpy cimport ndarray

from bnstream._kernels._table cimport STATE_ROWS, Sink, View

cdef enum:
    POWER = 700                         # of two, by which large data is divided; see large.pyx
    ROOM_ROWS = 2 * STATE_ROWS + 2      # rows of the scratch of `merge_large`

cdef bint moderate(const double *state, Py_ssize_t pitch, Py_ssize_t n) noexcept nogil
cdef bint look_again(View *view, const Sink *sink, ndarray x, unsigned long long axes, ndarray weights, ndarray mask,
                     bint omit, int threads, double *exponent) except -1
cdef int narrow(ndarray channels, ndarray x, unsigned long long axes, ndarray weights, ndarray mask,
                bint to_finite) except -1
cdef bint merge_large(double *state, Py_ssize_t pitch, bint weighted, const double *part, const double *exponent,
                      double *room) noexcept nogil
cdef double variance_of(double m2, double n, double exponent) noexcept nogil
cdef double deviation_of(double m2, double n, double exponent) noexcept nogil
cdef double restored(double mean, double exponent) noexcept nogil
