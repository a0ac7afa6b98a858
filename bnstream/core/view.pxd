from numpy cimport ndarray

from bnstream._kernels._table cimport View

cdef enum Policy:
    PROPAGATE, RAISE, OMIT

cdef Policy policy_of(object nan_policy) except *
cdef int require_finite(ndarray mean) except -1
cdef object not_finite(Py_ssize_t n_bad, Py_ssize_t n_channels, str place)
cdef ndarray as_array(object x)
cdef double number_of(object value, str name) except? -1
cdef unsigned long long batch_axes(object axis, int ndim, str name=*) except? 0
cdef int element_of(ndarray a) except -1
cdef tuple at_axes(object entries, unsigned long long axes)
cdef tuple axes_named(unsigned long long axes, int ndim)
cdef bint fits(tuple shape, tuple to) noexcept
cdef tuple kept_shape(ndarray a, unsigned long long axes, bint keepdims)
cdef bint is_of_positions(ndarray mask, ndarray x, unsigned long long axes) noexcept
cdef ndarray mask_of(object where, ndarray x, unsigned long long axes)
cdef ndarray counts_of(object weights, ndarray mask, ndarray x, unsigned long long axes)
cdef ndarray weights_of(object weights, ndarray mask, ndarray x, unsigned long long axes)
cdef int make_view(View *view, unsigned long long axes, ndarray x, ndarray y=*, ndarray dx=*, ndarray weights=*,
                   ndarray where=*, Py_ssize_t instance=*, Py_ssize_t group=*) except -1
