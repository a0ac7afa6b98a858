from numpy cimport ndarray

from bnstream._kernels._table cimport Elementwise, Norm, View
from bnstream.core.view cimport Policy

cdef class Forward:
    cdef readonly ndarray x             # None where the result has taken its place
    cdef int ndim
    cdef Py_ssize_t lengths[64]         # the shape of x in the call
    cdef ndarray where                  # which elements count, as `mask_of` has it; None: all
    cdef readonly bint skipped          # where leaves out the whole batch, which changes no estimates
    cdef readonly bint training
    cdef object result_dtype            # None: as follows from x
    cdef public object ratio            # of Batch Renormalization: r and d
    cdef double *rows                   # of the `Norm` of the kernels
    cdef readonly Py_ssize_t n_channels
    cdef Py_ssize_t pitch
    cdef unsigned long long axes        # reduced over, as bits
    cdef bint broadcasting              # parameters broadcast against x; else they have the shape of the channels
    cdef double eps
    cdef bint omit
    cdef bint of_instances              # Every instance is normalized by itself.
    cdef readonly Py_ssize_t instance   # channels of an instance, or of a batch or virtual batch
    cdef Py_ssize_t virtual_batch       # rows that are normalized by their own statistics; 0: the whole batch
    cdef Py_ssize_t group               # neighboring channels that share their statistics
    cdef bint plain                     # Its channels have neither gamma nor beta.
    cdef bint result_only               # Neither statistics nor a backward pass are wanted.
    cdef bint about_zero                # x is divided by its root mean square
    cdef Elementwise each               # parameters of batch positions, if gamma is not NULL
    cdef double *each_room              # the memory in which they begin at a cache line

    cdef double *row(self, int i) noexcept
    cdef Norm norm(self) noexcept
    cdef int require_same_shape(self) except -1
    cdef ndarray divided(self, ndarray a)
    cdef str place(self, Py_ssize_t c)
    cdef bint left_out(self, Py_ssize_t first) noexcept
    cdef bint small(self) noexcept
    cdef bint one_row(self, ndarray a) noexcept
    cdef int threads(self, object n_threads) except -1
    cdef int fill(self, int i, double value) except -1
    cdef int set_row(self, int i, object values, str name) except -1
    cdef int repeat(self, int i) except -1
    cdef int set_where(self, object where) except -1
    cdef int set_statistics(self, object mean, object var, str prefix) except -1
    cdef int view_of(self, View *view, ndarray x, ndarray y=*, ndarray dx=*) except -1
    cdef int start_inference(self, str name, bint one) except -1
    cdef bint require_bounded(self, Policy policy) except -1
    cdef bint skip(self, Policy policy) except -1
    cpdef int accumulate(self, object nan_policy, object n_threads) except -1
    cdef int start_training(self, const View *view, Policy policy) except -1
    cdef bint check_state(self, Policy policy, bint replaced, int threads) except -1
    cdef bint second_look(self, Policy policy, int threads) except -1
    cdef bint any_far(self) noexcept
    cdef ndarray quarters(self)
    cpdef ndarray apply(self, object out, object n_threads)
    cdef ndarray apply_and_look(self, object out, object n_threads, bint *has_inf)
    cpdef ndarray train(self, object out, object nan_policy, object n_threads)
    cdef int blend(self, double *mean, double *var, Py_ssize_t first, Py_ssize_t n_channels, double momentum, double ddof,
                   bint of_sd) except -1
    cdef int weigh(self, double *spread, Py_ssize_t first, Py_ssize_t n_channels, double momentum) except -1
    cdef int gradients(self, const View *view, const Norm *norm, double *grads, int threads) noexcept nogil
    cdef int scale_gradient(self, ndarray dy, ndarray dx, int threads) except -1
    cdef int renormalize_gradient(self, double *grads) except -1
    cdef object gradient(self, const double *row, Py_ssize_t n, dtype)
    cdef object parameter_gradient(self, double *row, const double *of_each, dtype)

cdef int check(int failed) except -1
cdef ndarray real_array(object values, str name)
cdef Forward forward_over(ndarray x, unsigned long long axes, bint broadcasting, object gamma, object beta, double eps,
                          bint plain=*, Py_ssize_t virtual_batch=*)
cdef Forward new_forward(object x, object channel_axis, int least_ndim, object gamma, object beta, double eps,
                         Py_ssize_t virtual_batch=*)
cdef Forward broadcast_forward(object x, object mean, object var, object gamma, object beta, double eps)
