from numpy cimport ndarray

cdef ndarray result_like(ndarray x, object out, object wanted, bint *replaces)
cdef bint extents_meet(ndarray a, ndarray b) noexcept
cdef bint overlap(ndarray x, ndarray y, str name) except -1
cdef bint same_shape(ndarray a, ndarray b) noexcept
