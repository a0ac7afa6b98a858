from libc.stdint cimport int64_t
from numpy cimport ndarray

from bnstream._kernels._table cimport Limbs


cdef class ExactSums:
    cdef ndarray limbs          # (channels, pitch), of uint64
    cdef ndarray table          # the counts: (channels, COUNTED), of int64
    cdef Limbs of               # the window, and where the arrays are
    cdef Py_ssize_t n_channels
    cdef Py_ssize_t pitch

    @staticmethod
    cdef ExactSums zeros(Py_ssize_t n, Limbs window)
    cdef ExactSums copied(self)
    cdef ExactSums widened(self, const Limbs *window)
    cdef void add(self, ExactSums other) noexcept
    cdef void subtract(self, ExactSums other) noexcept
    cdef tuple integers_of(self, Py_ssize_t c)
    cdef tuple spread_of(self, Py_ssize_t c)
    cdef bint finite_channel(self, Py_ssize_t c) noexcept
    cdef bint finite(self) noexcept
    cdef void leave_out(self) noexcept
    cdef Py_ssize_t impossible(self) noexcept
    cdef void negate(self) noexcept
    cdef int require_room(self, ExactSums part) except -1
    cdef int64_t counted(self, Py_ssize_t c) noexcept
    cdef int64_t most(self) noexcept
    cdef void shift(self, int bits) noexcept
    cdef bint set_spread(self, Py_ssize_t c, void *spread) noexcept
    cdef double mean_of(self, Py_ssize_t c) except? -1
    cdef double var_of(self, Py_ssize_t c, double ddof, bint root, bint sum) except? -1
    cdef ndarray each_var(self, double ddof, bint root, bint sum)

cdef bint covers(const Limbs *a, const Limbs *b) noexcept nogil
cdef ExactSums sums_of_array(ndarray a, unsigned long long axes, ndarray mask, int threads, ExactSums own=*,
                             bint refuse=*)
cdef ExactSums weighted_sums(ndarray a, unsigned long long axes, ndarray mask, ndarray counts, int threads)
